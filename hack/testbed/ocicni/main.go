// What CRI-O does with the networks of pods, through the library by which it does it. Its tests are cni-plugin/tests/crio.rs.
//
//	ocicni status|add|check|del|gc DIRECTORY < pods
//
// The directory has plugins in bin, the network's configuration in conf and what the library remembers in cache. Pods are a
// list of ocicni.PodNetwork as JSON. add and check print the addresses of each on a line, and whatever fails its error, on
// standard output.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	types "github.com/containernetworking/cni/pkg/types/100"
	"github.com/cri-o/ocicni/pkg/ocicni"
	"github.com/sirupsen/logrus"
)

func main() {
	logrus.SetOutput(io.Discard)
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func run(verb, dir string) error {
	in := func(name string) string { return filepath.Join(dir, name) }
	plugin, err := ocicni.InitCNINoInotify("", in("conf"), in("cache"), in("bin"))
	if err != nil {
		return err
	}
	var pods []*ocicni.PodNetwork
	if err := json.NewDecoder(os.Stdin).Decode(&pods); err != nil {
		return err
	}
	switch verb {
	case "status":
		return plugin.Status()
	case "gc":
		return plugin.GC(context.Background(), pods)
	}
	for _, pod := range pods {
		switch verb {
		case "add":
			if _, err = plugin.SetUpPod(*pod); err == nil {
				err = check(plugin, pod)
			}
		case "check":
			err = check(plugin, pod)
		case "del":
			err = plugin.TearDownPod(*pod)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// check is how CRI-O learns of a pod's addresses, after ADD and when it starts.
func check(plugin ocicni.CNIPlugin, pod *ocicni.PodNetwork) error {
	status, err := plugin.GetPodNetworkStatus(*pod)
	if err != nil {
		return err
	}
	result, err := types.GetResult(status[0].Result)
	if err != nil {
		return err
	}
	addresses := []string{}
	for _, ip := range result.IPs {
		addresses = append(addresses, ip.Address.IP.String())
	}
	return json.NewEncoder(os.Stdout).Encode(addresses)
}
