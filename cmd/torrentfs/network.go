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
	resolveTimeout durationValue
}

func defaultNetworkFlags() networkFlags {
	return networkFlags{resolveTimeout: durationValue(2 * time.Minute)}
}

func (f *networkFlags) register(flags *pflag.FlagSet) {
	flags.Var(&f.peers, "peer", "ask the peer at `HOST:PORT` too; may be repeated")
	flags.BoolVar(&f.noTrackers, "no-trackers", false, "don't ask trackers for peers")
	flags.BoolVar(&f.noDHT, "no-dht", false, "don't take part in the DHT")
	flags.BoolVar(&f.noLSD, "no-lsd", false, "don't look for peers on the local network")
	flags.Var(&f.bootstrap, "dht-bootstrap", "join the DHT by the node at `HOST:PORT`; may be repeated")
	flags.Var(&f.resolveTimeout, "resolve-timeout", "give up looking for what SOURCE names after `DUR`")
}

// config is what the flags say of the network side. Its state is kept in dir.
func (f *networkFlags) config(dir storeDir, log *slog.Logger) fetch.Config {
	return fetch.Config{
		NoTrackers: f.noTrackers,
		NoDHT:      f.noDHT,
		NoLSD:      f.noLSD,
		Bootstrap:  f.bootstrap,
		StateDir:   dir.state(),
		Version:    release(),
		Logger:     log,
	}
}
