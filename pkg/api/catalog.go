package api

// Node is one machine of the catalog.
type Node struct {
	ID              string
	Node            string
	Address         string
	Datacenter      string
	TaggedAddresses map[string]string
	Meta            map[string]string
	CreateIndex     uint64
	ModifyIndex     uint64
}

// ServiceAddress is one tagged address of a service.
type ServiceAddress struct {
	Address string `conf:"address"`
	Port    int    `conf:"port"`
}

// Weights are the DNS SRV weights of a service instance by its health.
type Weights struct {
	Passing int
	Warning int
}

// Empty stands for the mesh objects of the reference that are always {} here.
type Empty struct{}

// UnmarshalJSON accepts and drops any value.
func (*Empty) UnmarshalJSON([]byte) error { return nil }

// NodeService is a service instance as part of its node.
type NodeService struct {
	Kind              string `json:",omitempty"`
	ID                string
	Service           string
	Tags              []string
	Address           string
	TaggedAddresses   map[string]ServiceAddress `json:",omitempty"`
	Meta              map[string]string
	Port              int    `json:",omitempty"`
	SocketPath        string `json:",omitempty"`
	Weights           Weights
	EnableTagOverride bool
	Proxy             Empty
	Connect           Empty
	PeerName          string
	CreateIndex       uint64
	ModifyIndex       uint64
}

// ServiceNode is a service instance joined with its node
// (/v1/catalog/service/:name).
type ServiceNode struct {
	ID                       string
	Node                     string
	Address                  string
	Datacenter               string
	TaggedAddresses          map[string]string
	NodeMeta                 map[string]string
	ServiceKind              string
	ServiceID                string
	ServiceName              string
	ServiceTags              []string
	ServiceAddress           string
	ServiceTaggedAddresses   map[string]ServiceAddress `json:",omitempty"`
	ServiceWeights           Weights
	ServiceMeta              map[string]string
	ServicePort              int
	ServiceSocketPath        string
	ServiceEnableTagOverride bool
	ServiceProxy             Empty
	ServiceConnect           Empty
	ServiceLocality          *Empty
	CreateIndex              uint64
	ModifyIndex              uint64
}

// NodeServices is a node with its services by id (/v1/catalog/node/:node).
type NodeServices struct {
	Node     *Node
	Services map[string]*NodeService
}

// NodeServiceList is a node with its services as a list
// (/v1/catalog/node-services/:node); nil where the node is unknown.
type NodeServiceList struct {
	Node     *Node
	Services []*NodeService
}

// CatalogRegistration is the body of PUT /v1/catalog/register.
type CatalogRegistration struct {
	Datacenter      string            `json:",omitempty"`
	ID              string            `json:",omitempty"`
	Node            string            `json:",omitempty"`
	Address         string            `json:",omitempty"`
	TaggedAddresses map[string]string `json:",omitempty"`
	NodeMeta        map[string]string `json:",omitempty"`
	Service         *NodeService      `json:",omitempty"`
	Check           *HealthCheck      `json:",omitempty"`
	Checks          []*HealthCheck    `json:",omitempty"`
	SkipNodeUpdate  bool              `json:",omitempty"`
}

// CatalogDeregistration is the body of PUT /v1/catalog/deregister. ServiceID
// names a service, else CheckID a check; with neither the whole node goes.
type CatalogDeregistration struct {
	Datacenter string `json:",omitempty"`
	Node       string
	ServiceID  string `json:",omitempty"`
	CheckID    string `json:",omitempty"`
}
