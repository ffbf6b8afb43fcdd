package config

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decode reads YAML into c and returns all that is wrong with it. It goes through the document beside the structs,
// because yaml.v3 names Go types in its errors, not keys.
func decode(c *Config, text []byte) Problems {
	var document, second yaml.Node
	in := yaml.NewDecoder(strings.NewReader(string(text)))
	if err := in.Decode(&document); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return Problems{{"config", strings.TrimPrefix(err.Error(), "yaml: ")}}
	}
	if err := in.Decode(&second); !errors.Is(err, io.EOF) {
		return Problems{{"config", "the file must be a single document"}}
	}
	var d decoder
	d.section(document.Content[0], reflect.ValueOf(c).Elem(), "")
	return d.problems
}

// YAML is c as a file that could be loaded again, but for the secrets, which are masked.
func (c Config) YAML() ([]byte, error) { return yaml.Marshal(c) }

type decoder struct{ problems Problems }

// wrong notes a problem and where it stands. It does not repeat the value, which may be a secret.
func (d *decoder) wrong(key string, at *yaml.Node, text string) {
	if key == "" {
		key = "config"
	}
	d.problems.add(key, "%s (line %d)", text, at.Line)
}

// value decodes one node. A null leaves the default.
func (d *decoder) value(node *yaml.Node, into reflect.Value, key string) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.ShortTag() == "!!null" {
		return
	}
	switch into.Kind() {
	case reflect.Struct:
		d.section(node, into, key+".")
	case reflect.Slice:
		d.list(node, into, key)
	default:
		d.scalar(node, into, key)
	}
}

// section goes on after a mistake, so that one start tells of all.
func (d *decoder) section(node *yaml.Node, into reflect.Value, prefix string) {
	if node.ShortTag() == "!!null" {
		return
	}
	if node.Kind != yaml.MappingNode {
		d.wrong(strings.TrimSuffix(prefix, "."), node, "must be a section of `key: value` lines")
		return
	}
	seen := map[string]bool{}
	for i := 0; i < len(node.Content); i += 2 {
		name := node.Content[i].Value
		field, ok := fieldNamed(into, name)
		switch {
		case !ok:
			d.wrong(prefix+name, node.Content[i], "there is no such setting"+suggest(into.Type(), name))
		case seen[name]:
			d.wrong(prefix+name, node.Content[i], "is set twice")
		default:
			d.value(node.Content[i+1], field, prefix+name)
		}
		seen[name] = true
	}
}

// list replaces the default as a whole: to add to a default, one would have to know it.
func (d *decoder) list(node *yaml.Node, into reflect.Value, key string) {
	if node.Kind != yaml.SequenceNode {
		d.wrong(key, node, "must be a list")
		return
	}
	items := reflect.MakeSlice(into.Type(), len(node.Content), len(node.Content))
	for i, item := range node.Content {
		d.value(item, items.Index(i), index(key, i))
	}
	into.Set(items)
}

func (d *decoder) scalar(node *yaml.Node, into reflect.Value, key string) {
	if node.Kind != yaml.ScalarNode {
		d.wrong(key, node, "must be a single value")
		return
	}
	if err := setScalar(into, node.Value); err != nil {
		d.wrong(key, node, err.Error())
	}
}

func fieldNamed(section reflect.Value, name string) (reflect.Value, bool) {
	for i := range section.NumField() {
		if keyOf(section.Type(), i) == name {
			return section.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// suggest names the key that was probably meant.
func suggest(section reflect.Type, name string) string {
	best, distance := "", 3
	for i := range section.NumField() {
		key := keyOf(section, i)
		if d := editDistance(key, name); d < distance {
			best, distance = key, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// editDistance counts the letters to insert, delete or replace to make b of a.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
