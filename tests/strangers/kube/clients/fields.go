package main

import (
	"fmt"
	"os"
	"reflect"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
)

// Kinds that typed clients send to the lab's API.
var sent = []string{
	"v1/Binding", "v1/ConfigMap", "v1/DeleteOptions", "v1/Endpoints", "v1/Event", "v1/Namespace", "v1/Node", "v1/Pod", "v1/Secret",
	"v1/Service", "v1/ServiceAccount", "apps/v1/DaemonSet", "authentication.k8s.io/v1/SelfSubjectReview",
	"authentication.k8s.io/v1/TokenRequest", "authentication.k8s.io/v1/TokenReview",
	"authorization.k8s.io/v1/SelfSubjectAccessReview", "authorization.k8s.io/v1/SelfSubjectRulesReview",
	"coordination.k8s.io/v1/Lease", "discovery.k8s.io/v1/EndpointSlice", "events.k8s.io/v1/Event",
}

// Types with a JSON form of their own.
var special = map[reflect.Type]string{
	reflect.TypeOf(metav1.Time{}):          "time",
	reflect.TypeOf(metav1.MicroTime{}):     "microtime",
	reflect.TypeOf(metav1.Duration{}):      "duration",
	reflect.TypeOf(metav1.FieldsV1{}):      "json",
	reflect.TypeOf(runtime.RawExtension{}): "json",
	reflect.TypeOf(resource.Quantity{}):    "quantity",
	reflect.TypeOf(intstr.IntOrString{}):   "intorstring",
}

// protobufFields prints, from the tags of Kubernetes' own types, how their protobuf form is written as JSON. One line for each field:
// message, number, name in JSON, type, and flags (r: repeated, m: map by text, i: its fields stand in the object around it,
// p: says whether it is there, o: left out of JSON when empty). Lines of number 0 say which message a kind is.
func protobufFields() {
	done := map[reflect.Type]bool{}
	var lines []string
	var walk func(reflect.Type)
	walk = func(message reflect.Type) {
		if done[message] {
			return
		}
		done[message] = true
		for i := range message.NumField() {
			field := message.Field(i)
			tag := strings.Split(field.Tag.Get("protobuf"), ",")
			if len(tag) < 2 {
				continue
			}
			name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
			kind, flags := field.Type, ""
			if strings.Contains(options, "inline") {
				flags += "i"
			}
			if strings.Contains(options, "omitempty") {
				flags += "o"
			}
			if kind.Kind() == reflect.Pointer {
				flags, kind = flags+"p", kind.Elem()
			}
			if kind.Kind() == reflect.Slice && kind.Elem().Kind() != reflect.Uint8 && special[kind] == "" {
				flags, kind = flags+"r", kind.Elem()
			} else if kind.Kind() == reflect.Map {
				flags, kind = flags+"m", kind.Elem()
			}
			lines = append(lines, fmt.Sprintf("%s\t%s\t%s\t%s\t%s", title(message), tag[1], name, leaf(kind, walk), flags))
		}
	}
	for _, kind := range sent {
		parts := strings.Split(kind, "/")
		version := schema.GroupVersion{Version: parts[len(parts)-2], Group: strings.Join(parts[:len(parts)-2], "/")}
		object, err := scheme.Scheme.New(version.WithKind(parts[len(parts)-1]))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		message := reflect.TypeOf(object).Elem()
		lines = append(lines, fmt.Sprintf("%s\t0\t\t%s\t", kind, title(message)))
		walk(message)
	}
	sort.Strings(lines)
	fmt.Println(strings.Join(lines, "\n"))
}

func leaf(kind reflect.Type, walk func(reflect.Type)) string {
	if name, ok := special[kind]; ok {
		return name
	}
	switch kind.Kind() {
	case reflect.Struct:
		walk(kind)
		return title(kind)
	case reflect.Slice:
		if kind.Elem().Kind() == reflect.Uint8 {
			return "bytes"
		}
		return "strings"
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "bool"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "int"
	default:
		fmt.Fprintln(os.Stderr, "no JSON form is known of", kind)
		os.Exit(1)
		return ""
	}
}

// core.v1.Pod
func title(message reflect.Type) string {
	parts := strings.Split(message.PkgPath(), "/")
	return strings.Join(parts[len(parts)-2:], ".") + "." + message.Name()
}
