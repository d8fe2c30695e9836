package api

// Event is a user event as GET /v1/event/list shows it and PUT /v1/event/fire/
// answers it. Filters are regular expressions; an agent that they do not match
// does not keep the event.
type Event struct {
	ID            string
	Name          string
	Payload       []byte
	NodeFilter    string
	ServiceFilter string
	TagFilter     string
	Version       int
	LTime         uint64
}
