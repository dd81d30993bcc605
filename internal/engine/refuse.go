package engine

// RefusedError says that a tree cannot be saved, and why.
type RefusedError struct {
	Obstacles []Obstacle
}

// Obstacle is one thing that cannot be saved.
type Obstacle struct {
	PID  PID    `json:"pid"`
	What string `json:"what"` // "io_uring fd 7 of pid 812 cannot be saved"
	Hint string `json:"hint"`
}

func (e *RefusedError) Error() string {
	if len(e.Obstacles) == 0 {
		return "cannot be checkpointed"
	}
	return e.Obstacles[0].What
}

func refuse(pid int, what, hint string) error {
	return &RefusedError{Obstacles: []Obstacle{{PID: PID(pid), What: what, Hint: hint}}}
}
