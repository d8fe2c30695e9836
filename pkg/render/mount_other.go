//go:build !linux

package render

// isMountPoint reports whether something is mounted right at path; files never are
// on these systems.
func isMountPoint(string) bool { return false }
