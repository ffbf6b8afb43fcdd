package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is that of the last entry of CHANGELOG.md.
const version = "0.1.0-dev"

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "myelin", longVersion())
			return err
		},
	}
}

// longVersion names the commit too, if the build knows it.
func longVersion() string {
	text := fmt.Sprintf("%s %s %s/%s", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return text
	}
	for _, s := range info.Settings { // there are none with `go run`, and in builds without the repository
		if s.Key == "vcs.revision" {
			text += " " + s.Value
		}
	}
	return text
}
