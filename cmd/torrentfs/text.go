package main

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/dustin/go-humanize"
)

// printable returns a stranger's text with everything escaped that could do something to a terminal.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) < 0 {
		return s
	}
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// shellQuote returns s as one word of a shell's command line, fit to be shown and copied.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("_-+=.,/:@%", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(printable(s), "'", `'\''`) + "'"
}

// shellQuoteAll returns words as part of a shell's command line.
func shellQuoteAll(words []string) string {
	var quoted []string
	for _, word := range words {
		quoted = append(quoted, shellQuote(word))
	}
	return strings.Join(quoted, " ")
}

// byteCount returns n bytes in words, exactly and, if they are many, also rounded.
func byteCount(n int64) string {
	if n < humanize.KiByte {
		return plural(int(n), "byte")
	}
	return fmt.Sprintf("%s (%s bytes)", humanize.IBytes(uint64(n)), humanize.Comma(n))
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func formatRate(bytesPerSecond float64) string {
	return humanize.Bytes(uint64(max(bytesPerSecond, 0))) + "/s"
}

// cut returns the beginning of a line, as much as fits into so many columns of a terminal.
func cut(line string, columns int) string {
	for i, r := range line {
		columns--
		if r >= 0x1100 { // from here on there are wide ones
			columns--
		}
		if columns < 0 {
			return line[:i]
		}
	}
	return line
}
