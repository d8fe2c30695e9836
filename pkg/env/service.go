package env

import "strings"

// Instance is one instance of a service.
type Instance struct {
	Service, ID, Name, Address, Port string
	Tags                             []string
}

// ServiceFormats are the formats of the keys of an instance; a nil one gives
// "<service>/id", "<service>/name" and so on. In a format, key is "id", "name" and so on.
type ServiceFormats struct{ ID, Name, Address, Tag, Port *Format }

// Pairs are the data of instances, for a Source whose LastWins is set.
func (f ServiceFormats) Pairs(instances []Instance) ([]Pair, error) {
	var out []Pair
	for _, in := range instances {
		for _, one := range []struct {
			key    string
			format *Format
			value  string
		}{
			{"id", f.ID, in.ID}, {"name", f.Name, in.Name}, {"address", f.Address, in.Address},
			{"tag", f.Tag, strings.Join(in.Tags, ",")}, {"port", f.Port, in.Port},
		} {
			key := in.Service + "/" + one.key
			from := key + " of instance " + in.ID
			if one.format != nil {
				var err error
				if key, err = one.format.Execute(in.Service, one.key); err != nil {
					return nil, err
				}
			}
			out = append(out, Pair{Key: key, Value: one.value, From: from})
		}
	}
	return out, nil
}
