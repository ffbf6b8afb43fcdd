package config

import (
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// Sources is where settings come from, the strongest first. Each may be left out.
type Sources struct {
	Flags *pflag.FlagSet                   // with the flags of AddFlags, parsed
	Env   func(name string) (string, bool) // os.LookupEnv
	File  string                           // path of a YAML file
}

// AddFlags declares a flag for every scalar setting, and `--listen`. What they are given is read by Load.
func AddFlags(flags *pflag.FlagSet) {
	defaults := Default()
	for f := range defaults.Fields() {
		if !f.Scalar && f.Key != "listen" {
			continue
		}
		flag := flags.VarPF(&flagValue{text: f.String(), kind: f.typeName()}, f.Flag(), "", usage(f))
		if f.typeName() == "bool" {
			flag.NoOptDefVal = "true"
		}
	}
}

// usage is the field's comment.
func usage(f Field) string {
	if f.Key == "listen" {
		return "Listen here only, and serve everything."
	}
	return strings.ReplaceAll(f.Doc, "`", "'") // pflag takes what is in backquotes for the name of the value
}

// flagValue keeps what a flag was given; it is checked together with all other settings.
type flagValue struct{ text, kind string }

func (v *flagValue) String() string        { return v.text }
func (v *flagValue) Set(text string) error { v.text = text; return nil }
func (v *flagValue) Type() string          { return v.kind }

func (f Field) typeName() string {
	if !f.Scalar {
		return "address"
	}
	return f.value.Kind().String()
}

// Load returns the settings in force: flags before environment before file before default, with the defaults that
// depend on others filled in. All that is wrong is returned at once, as Problems.
func Load(src Sources) (Config, error) {
	c := Default()
	problems, err := c.readFile(src.File)
	if err != nil {
		return c, err
	}
	for f := range c.Fields() {
		text, from, given := src.lookup(f)
		if !given {
			continue
		}
		if err := f.override(text); err != nil {
			problems.add(f.Key, "%s (from %s)", err, from)
		}
	}
	c.derive()
	problems = append(problems, c.problems()...)
	return c, problems.orNil()
}

func (c *Config) readFile(path string) (Problems, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the settings: %w", err)
	}
	return decode(c, text), nil
}

// override sets a field from a flag or the environment.
func (f Field) override(text string) error {
	if f.Scalar {
		return f.Set(text)
	}
	f.value.Set(reflect.ValueOf([]Listener{{Address: text}}))
	return nil
}

// lookup finds what flag or environment say of f.
func (s Sources) lookup(f Field) (text, from string, given bool) {
	if !f.Scalar && f.Key != "listen" {
		return "", "", false
	}
	if s.Flags != nil && s.Flags.Changed(f.Flag()) {
		return s.Flags.Lookup(f.Flag()).Value.String(), "--" + f.Flag(), true
	}
	if s.Env == nil {
		return "", "", false
	}
	text, given = s.Env(f.Env())
	return text, f.Env(), given
}

// Problem is one mistake in the settings.
type Problem struct {
	Key  string // federation.allow[2]
	Text string
}

// Problems are all mistakes in the settings. It is an error.
type Problems []Problem

// Error has a line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Key + ": " + problem.Text
	}
	return strings.Join(lines, "\n")
}

func (p *Problems) add(key, format string, args ...any) {
	*p = append(*p, Problem{Key: key, Text: fmt.Sprintf(format, args...)})
}

// orNil is p as an error, nil if there is no problem.
func (p Problems) orNil() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

func index(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }
