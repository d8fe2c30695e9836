package funcs

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/muster-dev/muster/pkg/query"
)

// byTag groups the results of service, services or node by tag.
func byTag(list any) (map[string][]any, error) {
	groups := map[string][]any{}
	r := reflect.ValueOf(list)
	if !r.IsValid() {
		return groups, nil
	}
	if r.Kind() != reflect.Slice {
		return nil, fmt.Errorf("byTag: wrong argument type %T", list)
	}
	for i := range r.Len() {
		item := r.Index(i).Interface()
		var tags ServiceTags
		switch v := item.(type) {
		case *HealthService:
			tags = v.Tags
		case *CatalogSnippet:
			tags = v.Tags
		case *CatalogNodeService:
			tags = v.Tags
		default:
			return nil, fmt.Errorf("byTag: wrong argument type %T", list)
		}
		for _, tag := range tags {
			groups[tag] = append(groups[tag], item)
		}
	}
	return groups, nil
}

func byPort(list []*HealthService) map[int][]*HealthService {
	groups := map[int][]*HealthService{}
	for _, s := range list {
		groups[s.Port] = append(groups[s.Port], s)
	}
	return groups
}

// byMeta groups services by the values of the comma-separated meta keys, joined
// by _. A key that ends in |int is padded, so that groups sort by number.
func byMeta(keys string, list []*HealthService) (map[string][]*HealthService, error) {
	groups := map[string][]*HealthService{}
	for _, s := range list {
		var parts []string
		for key := range strings.SplitSeq(keys, ",") {
			part, err := metaPart(s.ServiceMeta, key)
			if err != nil {
				return nil, fmt.Errorf("byMeta: service %s on %s: %w", s.ID, s.Node, err)
			}
			parts = append(parts, part)
		}
		group := strings.Join(parts, "_")
		groups[group] = append(groups[group], s)
	}
	return groups, nil
}

func metaPart(meta map[string]string, key string) (string, error) {
	name, asInt := strings.CutSuffix(key, "|int")
	value := meta[name]
	if !asInt {
		if value == "" {
			value = "_no_" + name + "_"
		}
		return strings.Map(func(r rune) rune {
			if query.Word(string(r), "-") {
				return r
			}
			return '_'
		}, value), nil
	}
	if value == "" {
		value = "0"
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		return "", fmt.Errorf("cannot parse %q of %s as number", value, name)
	}
	return fmt.Sprintf("%05d", n), nil
}
