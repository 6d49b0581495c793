// Package metainfo reads what names a torrent: .torrent files (BEP 3), bare info dictionaries (BEP 9) and
// magnet links; it knows the layout of a torrent's files over its pieces, and makes .torrent files.
//
// It owns the strict bencode scanner that every stranger's bencoding passes before a decoder sees it, the
// info-hash, and the rule by which names become safe and unique to mount. It never opens a socket, never asks
// a tracker and holds no piece data.
package metainfo
