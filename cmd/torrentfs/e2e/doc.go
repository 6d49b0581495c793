// Package e2e tests the built torrentfs binary against programs this project did not write: transmission and
// libtorrent as seeders, opentracker as tracker, and cp, cmp, diff, ffmpeg and mpv as readers.
//
// It owns nothing of the program: each mount runs in a process of its own, so that a defect can't wedge the tests'
// own process, and everything it starts listens on loopback and ends with its test.
package e2e
