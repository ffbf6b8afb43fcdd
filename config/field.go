package config

import (
	_ "embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"iter"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// Field is one setting that is not a section: a scalar or a list.
type Field struct {
	Key    string // as in the file: rate_limits.login.burst
	Doc    string // the comment on the field in the source
	Scalar bool   // has a flag and an environment variable

	value reflect.Value
}

// Flag is the name of the field's flag, without dashes.
func (f Field) Flag() string {
	return strings.NewReplacer(".", "-", "_", "-").Replace(f.Key)
}

// Env is the name of the field's environment variable.
func (f Field) Env() string {
	return "MYELIN_" + strings.ToUpper(strings.ReplaceAll(f.Key, ".", "_"))
}

// String is the field's value as it would be written in the file; secrets are masked.
func (f Field) String() string {
	if f.value.Kind() != reflect.Slice {
		return fmt.Sprint(f.value.Interface())
	}
	parts := make([]string, f.value.Len())
	for i := range parts {
		item := f.value.Index(i)
		if listener, ok := item.Interface().(Listener); ok {
			parts[i] = listener.Address
			continue
		}
		parts[i] = fmt.Sprint(item.Interface())
	}
	return strings.Join(parts, ", ")
}

// Set changes the field of the Config that it came from.
func (f Field) Set(text string) error { return setScalar(f.value, text) }

// Fields goes through all settings of c, in the order of the source. Each can be changed in place.
func (c *Config) Fields() iter.Seq[Field] {
	return func(yield func(Field) bool) {
		walk(reflect.ValueOf(c).Elem(), "", yield)
	}
}

// walk goes through a section and those in it, and says whether to go on.
func walk(section reflect.Value, prefix string, yield func(Field) bool) bool {
	for i := range section.NumField() {
		value, key := section.Field(i), prefix+keyOf(section.Type(), i)
		if value.Kind() == reflect.Struct {
			if !walk(value, key+".", yield) {
				return false
			}
			continue
		}
		doc := comments()[section.Type().Name()+"."+section.Type().Field(i).Name]
		if !yield(Field{Key: key, Doc: doc, Scalar: value.Kind() != reflect.Slice, value: value}) {
			return false
		}
	}
	return true
}

func keyOf(section reflect.Type, i int) string { return section.Field(i).Tag.Get("yaml") }

// setScalar parses text into value. Its errors do not repeat the text, which may be a secret.
func setScalar(value reflect.Value, text string) error {
	switch value.Kind() {
	case reflect.String:
		value.SetString(text)
	case reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("must be true or false")
		}
		value.SetBool(text == "true")
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, value.Type().Bits())
		if err != nil {
			return fmt.Errorf("must be a whole number")
		}
		value.SetInt(n)
	case reflect.Float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("must be a number")
		}
		value.SetFloat(n)
	default:
		panic("config: no such kind of setting: " + value.Kind().String())
	}
	return nil
}

//go:embed config.go
var source []byte

// comments maps Type.Field to the comment on the field, read from the source itself, so that the help text cannot
// differ from it.
var comments = sync.OnceValue(func() map[string]string {
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", source, parser.ParseComments)
	if err != nil {
		panic("config: " + err.Error())
	}
	found := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		section, ok := spec.Type.(*ast.StructType)
		if !ok {
			return false
		}
		for _, field := range section.Fields.List {
			found[spec.Name.Name+"."+field.Names[0].Name] = strings.Join(strings.Fields(field.Doc.Text()), " ")
		}
		return false
	})
	return found
})

// ListenerFields are the settings of one listener; their keys begin with listen[].
func ListenerFields() []Field {
	var fields []Field
	walk(reflect.ValueOf(&Listener{}).Elem(), "listen[].", func(f Field) bool {
		fields = append(fields, f)
		return true
	})
	return fields
}

// SectionDoc is the comment on the section with that key; empty if there is none.
func SectionDoc(key string) string {
	config := reflect.TypeFor[Config]()
	for i := range config.NumField() {
		if keyOf(config, i) == key {
			return comments()["Config."+config.Field(i).Name]
		}
	}
	return ""
}
