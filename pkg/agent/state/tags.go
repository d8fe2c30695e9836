package state

import "slices"

// tagCount is how many instances of a service have a tag, or, where it is not Of a
// tag, how many there are: the list of services with their tags is made from these
// rows, not from all instances.
type tagCount struct {
	Service string
	Tag     string
	Of      bool
	N       int
}

func tagCountKey(c *tagCount) []byte {
	if !c.Of {
		return keyOf(c.Service)
	}
	return keyOf(c.Service, c.Tag)
}

// countTags counts an instance that becomes another one; either may be nil. It tells
// whether the list of services with their tags is another now.
func (x *tx) countTags(old, updated *instance) (changed bool) {
	// What both have never falls to nothing between.
	changed = x.addTags(updated, 1)
	return x.addTags(old, -1) || changed
}

func (x *tx) addTags(i *instance, by int) (changed bool) {
	if i == nil {
		return false
	}
	changed = x.addTag(tagCount{Service: i.Service.Service}, by)
	for k, tag := range i.Service.Tags {
		if slices.Index(i.Service.Tags, tag) == k { // twice is once
			changed = x.addTag(tagCount{Service: i.Service.Service, Tag: tag, Of: true}, by) || changed
		}
	}
	return changed
}

// addTag tells whether the row came or went.
func (x *tx) addTag(c tagCount, by int) bool {
	old := first[tagCount](x.reader, tableTags, "id", tagCountKey(&c))
	if old != nil {
		c.N = old.N
	}
	if c.N += by; c.N == 0 {
		x.delete(tableTags, old)
		return true
	}
	x.insert(tableTags, &c)
	return old == nil
}

// servicesWithTags lists them, tags in order.
func (r reader) servicesWithTags() map[string][]string {
	out := map[string][]string{}
	name, tags := "", []string(nil)
	for c := range scan[tagCount](r, tableTags, "id_prefix", nil) {
		if c.Of {
			tags = append(tags, c.Tag)
			out[name] = tags
			continue
		}
		name, tags = c.Service, []string{}
		out[name] = tags
	}
	return out
}
