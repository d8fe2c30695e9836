// Package acl says what a request needs to be allowed: rights over resources, in
// the terms of the reference's rules (https://developer.hashicorp.com/consul/docs/security/acl/acl-rules).
// It is pure: it knows neither requests nor tokens. Nothing decides by it yet.
package acl

// Resource is a kind of thing that rules are about.
type Resource string

// The resources of rules. Operator, Keyring and ACL have no names.
const (
	Agent    Resource = "agent"   // an agent's own endpoints, by node name
	Event    Resource = "event"   // user events, by name
	Exec     Resource = "exec"    // remote execution, by node name; muster's own
	Job      Resource = "job"     // named jobs of remote execution, by name; muster's own
	Key      Resource = "key"     // keys of the key/value store
	Node     Resource = "node"    // nodes of the catalog, by name
	Query    Resource = "query"   // prepared queries, by name
	Service  Resource = "service" // services of the catalog, by name
	Session  Resource = "session" // sessions, by node name
	Operator Resource = "operator"
	Keyring  Resource = "keyring"
	ACL      Resource = "acl"
)

// Access is what is to be done with a resource.
type Access string

// The kinds of access. List is for keys alone: it is what reading a prefix needs
// where the configuration asks for that (acl.enable_key_list_policy).
const (
	Read  Access = "read"
	List  Access = "list"
	Write Access = "write"
)

// Need is one right that a request needs. Of a list of needs all have to be met.
type Need struct {
	Resource Resource
	Name     string // "" for resources without names
	Access   Access
	Prefix   bool  // over everything whose name begins with Name
	Or       *Need // would do as well
}
