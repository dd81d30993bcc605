package durable

// WithSegments sets how much room the log's files have, for tests.
func (o Options) WithSegments(bytes int64) Options {
	o.segment = bytes
	return o
}
