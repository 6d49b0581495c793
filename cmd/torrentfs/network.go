package main

import (
	"log/slog"
	"time"

	"github.com/spf13/pflag"

	"torrentfs/fetch"
)

// networkFlags are the flags of the verbs that look for peers.
type networkFlags struct {
	peers          hostPortValue
	noTrackers     bool
	noDHT          bool
	noLSD          bool
	bootstrap      hostPortValue
	encryption     choiceValue
	device         deviceValue
	proxy          proxyValue
	resolveTimeout durationValue
}

func defaultNetworkFlags() networkFlags {
	return networkFlags{
		encryption:     choiceValue{"allow", []string{"allow", "prefer", "require", "off"}},
		resolveTimeout: durationValue(2 * time.Minute),
	}
}

func (f *networkFlags) register(flags *pflag.FlagSet) {
	flags.Var(&f.peers, "peer", "ask the peer at `HOST:PORT` too; may be repeated")
	flags.BoolVar(&f.noTrackers, "no-trackers", false, "don't ask trackers for peers")
	flags.BoolVar(&f.noDHT, "no-dht", false, "don't take part in the DHT")
	flags.BoolVar(&f.noLSD, "no-lsd", false, "don't look for peers on the local network")
	flags.Var(&f.bootstrap, "dht-bootstrap", "join the DHT by the node at `HOST:PORT`; may be repeated")
	flags.Var(&f.encryption, "encryption", "encrypt traffic `HOW`: allow, prefer, require or off")
	flags.Var(&f.device, "bind-device", "let all traffic go through the network interface `IFACE` alone")
	flags.Var(&f.proxy, "proxy", "let all traffic go through the proxy at `URL`, a socks5://HOST:PORT")
	flags.Var(&f.resolveTimeout, "resolve-timeout", "give up looking for what SOURCE names after `DUR`")
}

// config is what the flags say of the network side. Its state is kept in dir.
func (f *networkFlags) config(dir storeDir, log *slog.Logger) fetch.Config {
	return fetch.Config{
		NoTrackers: f.noTrackers,
		NoDHT:      f.noDHT,
		NoLSD:      f.noLSD,
		Bootstrap:  f.bootstrap,
		Encryption: fetch.Encryption(f.encryption.value),
		Device:     string(f.device),
		Proxy:      f.proxy.url,
		StateDir:   dir.state(),
		Version:    release(),
		Logger:     log,
	}
}

// sharingFlags are the flags of the verbs that share torrents with peers.
type sharingFlags struct {
	listen      listenValue
	noPortMap   bool
	maxPeers    countValue // of each torrent
	maxConns    countValue // of all together
	noPEX       bool
	uploadLimit rateValue
}

func defaultSharingFlags() sharingFlags {
	return sharingFlags{listen: ":0", maxPeers: 80, maxConns: 500}
}

func (f *sharingFlags) register(flags *pflag.FlagSet) {
	flags.Var(&f.listen, "listen", "accept peers at `ADDR`; port 0 is one that is kept")
	flags.BoolVar(&f.noPortMap, "no-portmap", false, "don't ask the router to let peers in")
	flags.Var(&f.maxPeers, "max-peers", "be connected to at most `N` peers for each torrent")
	flags.Var(&f.maxConns, "max-connections", "be connected to at most `N` peers in all")
	flags.BoolVar(&f.noPEX, "no-pex", false, "don't exchange addresses of peers with peers")
	flags.Var(&f.uploadLimit, "upload-limit", "send at most `RATE` in all, as in 512KiB/s; 0 is no limit")
}

// share puts what the flags say into config.
func (f *sharingFlags) share(config *fetch.Config) {
	config.Listen = string(f.listen)
	config.MaxPeers = int(f.maxPeers)
	config.NoPortMap = f.noPortMap
	config.MaxConns = int(f.maxConns)
	config.NoPEX = f.noPEX
	config.UploadLimit = int64(f.uploadLimit)
}
