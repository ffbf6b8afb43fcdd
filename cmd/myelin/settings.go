package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/myelin-chat/myelin/config"
	"github.com/myelin-chat/myelin/event"
)

// settings reads the configuration for one command.
type settings struct {
	env   func(string) (string, bool)
	flags *pflag.FlagSet
	file  *string
}

// addSettings gives a command the flags of all settings, and --config. With below, its subcommands have them.
func addSettings(cmd *cobra.Command, env func(string) (string, bool)) settings {
	flags := pflag.NewFlagSet("settings", pflag.ContinueOnError)
	config.AddFlags(flags)
	file := flags.String("config", "", "Read settings from this YAML file (MYELIN_CONFIG).")
	cmd.Flags().AddFlagSet(flags)
	cmd.Flags().SortFlags = false
	return settings{env: env, flags: flags, file: file}
}

// load returns the settings in force and checks them.
func (s settings) load() (config.Config, error) {
	file := *s.file
	if file == "" {
		file, _ = s.env("MYELIN_CONFIG")
	}
	// config knows what a room version looks like; which of them there are, only event does.
	c, err := config.Load(config.Sources{Flags: s.flags, Env: s.env, File: file})
	if _, known := event.VersionOf(c.DefaultRoomVersion); err == nil && !known {
		err = config.Problems{{Key: "default_room_version", Text: fmt.Sprintf("%s is not supported", c.DefaultRoomVersion)}}
	}
	return c, err
}

// configCommand prints the settings before it tells what is wrong with them: where a wrong value comes from is easier
// seen beside the others. Secrets are masked.
func configCommand(env func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the settings in force, and check them",
		Args:  cobra.NoArgs,
	}
	s := addSettings(cmd, env)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, problems := s.load()
		text, err := c.YAML()
		if err != nil {
			return err
		}
		if _, err := cmd.OutOrStdout().Write(text); err != nil {
			return err
		}
		return problems
	}
	return cmd
}
