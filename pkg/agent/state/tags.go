package state

import "slices"

// tagCount is the number of instances of a service that have a tag or, without
// HasTag, of all its instances. The list of services with their tags is made from
// these rows, not from all instances.
type tagCount struct {
	Service string
	Tag     string
	HasTag  bool
	N       int
}

func tagCountKey(c *tagCount) []byte {
	if !c.HasTag {
		return keyOf(c.Service)
	}
	return keyOf(c.Service, c.Tag)
}

// countTags counts the tags of an instance that changes from old to updated; either
// may be nil. It returns whether the list of services with their tags has changed.
func (x *tx) countTags(old, updated *instance) (changed bool) {
	// First the new one, so that the count of a tag of both never becomes 0.
	changed = x.addTags(updated, 1)
	return x.addTags(old, -1) || changed
}

func (x *tx) addTags(i *instance, by int) (changed bool) {
	if i == nil {
		return false
	}
	changed = x.addTag(tagCount{Service: i.Service.Service}, by)
	for k, tag := range i.Service.Tags {
		if slices.Index(i.Service.Tags, tag) == k { // a duplicate counts once
			changed = x.addTag(tagCount{Service: i.Service.Service, Tag: tag, HasTag: true}, by) || changed
		}
	}
	return changed
}

// addTag returns whether the row was created or deleted.
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

// servicesWithTags lists all services with their tags in order.
func (r reader) servicesWithTags() map[string][]string {
	out := map[string][]string{}
	name, tags := "", []string(nil)
	for c := range scan[tagCount](r, tableTags, "id_prefix", nil) {
		if c.HasTag {
			tags = append(tags, c.Tag)
			out[name] = tags
			continue
		}
		name, tags = c.Service, []string{}
		out[name] = tags
	}
	return out
}
