// Package api is the words that a keeper and its callers exchange, and the
// two sides of the exchange.
//
// A keeper listens on the UNIX socket keeper.sock (0600) in the directory of
// its workload. A connection carries one request: the caller writes one line
// of JSON (a Request), the keeper answers with lines of JSON (each a Reply);
// the last one has Done set. For the request "attach" the connection becomes
// the stream of the workload's terminal after that last line. A keeper
// answers only its own user and root.
//
// The package imports nothing of the rest of the program, so that it can be
// used by anything that looks at keepers from outside.
package api

import (
	"time"
)

// SocketName is the name of a keeper's socket in its workload's directory.
const SocketName = "keeper.sock"

// OutputName is the name of the file that holds what a command printed, in
// its workload's directory.
const OutputName = "output.log"

// Version is the version of the exchange. A keeper answers a request of a
// newer version with an error.
const Version = 1

// State is what a workload is doing.
type State string

// The states of a workload.
const (
	Starting  State = "starting"  // its command is being started
	Running   State = "running"   // its processes run
	Restoring State = "restoring" // a generation is being put back
	Waiting   State = "waiting"   // for a file system or a user, without which it is not brought back
	Stopped   State = "stopped"   // ended by `stop`; `start` goes on
	Finished  State = "finished"  // ended by itself, cleanly
	Failed    State = "failed"    // ended, and could not or should not be brought back
	Down      State = "down"      // was running when everything was lost; `recover` brings it back
	Damaged   State = "damaged"   // what says what it is cannot be read, and no keeper knows it
)

// Spec is what a workload runs. It never changes after the workload was made.
type Spec struct {
	Name     string    `json:"name"`
	Argv     []string  `json:"argv"`
	Env      []string  `json:"env"`
	Dir      string    `json:"dir"`
	Umask    int       `json:"umask"`
	Stdin    string    `json:"stdin,omitempty"` // path of a file; empty: /dev/null
	Terminal bool      `json:"terminal,omitempty"`
	Rows     uint16    `json:"rows,omitempty"`
	Cols     uint16    `json:"cols,omitempty"`
	HostIPC  bool      `json:"host_ipc,omitempty"`
	Adopt    int       `json:"adopt,omitempty"` // adopted as this process of the host; 0: started by us
	Cut      bool      `json:"cut,omitempty"`   // what an adopted program shares with the outside is replaced at recovery
	Created  time.Time `json:"created"`
	Notify   string    `json:"notify,omitempty"` // name of the socket on which it speaks; "": none

	Inherit *Inherited `json:"inherit,omitempty"` // nil: what its keeper would pass on
}

// Inherited is what a program inherits from whoever starts it, beside its
// directory and environment.
type Inherited struct {
	Limits      [][2]uint64 `json:"limits"` // soft and hard, by their numbers (getrlimit(2))
	Nice        int         `json:"nice"`
	OOMScoreAdj int         `json:"oom_score_adj"`
}

// The values of Policy's words.
const (
	FilesRollback = "rollback"
	FilesKeep     = "keep"
	OnRestore     = "restore" // of on_crash and on_exit
	OnFresh       = "fresh"   // of on_crash and give_up
	OnFinish      = "finish"  // of on_exit
	GiveUpStop    = "stop"    // of give_up
)

// Policy is how a workload is looked after. Empty fields mean the defaults.
type Policy struct {
	EverySeconds float64  `json:"every_seconds"`
	EveryAuto    bool     `json:"every_auto,omitempty"` // the interval is chosen, by what checkpoints cost and how often it crashes
	Data         []string `json:"data,omitempty"`
	Files        string   `json:"files"`                   // rollback, keep
	OnCrash      string   `json:"on_crash"`                // restore, fresh
	OnExit       string   `json:"on_exit"`                 // finish, restore
	GiveUp       string   `json:"give_up"`                 // stop, fresh
	LogMaxBytes  int64    `json:"log_max_bytes,omitempty"` // size at which the output is put aside; 0: 64 MiB
	Health       string   `json:"health,omitempty"`
	// WatchdogSeconds is how long the program may be silent that is to say
	// that it is well; 0: as it says itself.
	WatchdogSeconds float64 `json:"watchdog_seconds,omitempty"`
	Durable         bool    `json:"durable,omitempty"` // the program said that it keeps its own state: on_crash fresh and files keep

	KeepSizeBytes int64 `json:"keep_size_bytes"` // what the generations may take on the disk; 0: the default, -1: no limit
	// PauseBudgetSeconds is how long the program may stand still for its files
	// before the interval is stretched; 0: 0.1.
	PauseBudgetSeconds float64 `json:"pause_budget_seconds,omitempty"`

	BufferBytes int64 `json:"buffer_bytes,omitempty"` // what is copied in a freeze before it waits for the disk; 0: 256 MiB
	// RehearseSeconds is how often the newest generation is rehearsed; 0: 3600, -1: never.
	RehearseSeconds float64 `json:"rehearse_seconds,omitempty"`
	WriteLimitBytes int64   `json:"write_limit_bytes"` // what may be written a second, averaged over an hour; 0: the default, -1: no limit
}

// PolicyChange changes what is not nil.
type PolicyChange struct {
	EverySeconds *float64  `json:"every_seconds,omitempty"` // every_auto is then off
	EveryAuto    *bool     `json:"every_auto,omitempty"`
	Data         *[]string `json:"data,omitempty"`
	Files        *string   `json:"files,omitempty"`
	OnCrash      *string   `json:"on_crash,omitempty"`
	OnExit       *string   `json:"on_exit,omitempty"`
	GiveUp       *string   `json:"give_up,omitempty"`
	LogMaxBytes  *int64    `json:"log_max_bytes,omitempty"`
	Health       *string   `json:"health,omitempty"`

	WatchdogSeconds *float64 `json:"watchdog_seconds,omitempty"`

	KeepSizeBytes *int64 `json:"keep_size_bytes,omitempty"`

	PauseBudgetSeconds *float64 `json:"pause_budget_seconds,omitempty"`
	BufferBytes        *int64   `json:"buffer_bytes,omitempty"`
	WriteLimitBytes    *int64   `json:"write_limit_bytes,omitempty"`
	RehearseSeconds    *float64 `json:"rehearse_seconds,omitempty"`
}

// Row is a workload in the table of all workloads.
type Row struct {
	Name            string  `json:"name"`
	State           State   `json:"state"`
	PID             int     `json:"pid"`               // the command's, as the host sees it; 0: none
	KeeperPID       int     `json:"keeper_pid"`        // 0: none
	Generation      string  `json:"generation"`        // the newest committed one, "g412"; "" before the first
	EverySeconds    float64 `json:"every_seconds"`     // asked for or, where that is auto, chosen
	LostWorkSeconds float64 `json:"lost_work_seconds"` // what a crash now would cost; of a workload that is down: what it has cost at most
}

// Status is all that is known of one workload.
type Status struct {
	Row
	Command       []string   `json:"command"`
	Dir           string     `json:"dir"`
	Terminal      bool       `json:"terminal"`
	CreatedAt     time.Time  `json:"created_at"`
	StartedAt     *time.Time `json:"started_at,omitempty"` // the running tree's start or restore
	Policy        Policy     `json:"policy"`
	Checkpointing bool       `json:"checkpointing"`
	RestoredFrom  string     `json:"restored_from,omitempty"` // the generation that the running tree came from
	Epoch         uint64     `json:"epoch"`

	SizeBytes       int64   `json:"size_bytes"`          // of the generations on the disk
	WrittenDayBytes int64   `json:"written_day_bytes"`   // in the last day, as far as the keeper knows
	IntervalSeconds float64 `json:"interval_seconds"`    // from checkpoint to checkpoint, as it is now; 0: not running
	Stretched       string  `json:"stretched,omitempty"` // why that is more than every_seconds: slow, writes, failures, pause
	// AfterCrashSeconds is how long ago it came back from a crash, where
	// interval_seconds is less than every_seconds for that.
	AfterCrashSeconds float64 `json:"after_crash_seconds,omitempty"`
	Auto              *Auto   `json:"auto,omitempty"` // by what every_seconds was chosen; nil: it was asked for

	LastPauseSeconds      float64    `json:"last_pause_seconds"`
	FilesPauseSeconds     float64    `json:"files_pause_seconds"`     // of the last pause, for its files
	SlowFiles             []SlowFile `json:"slow_files,omitempty"`    // on which most of that was spent, when it was more than pause_budget_seconds
	LastCheckpointSeconds float64    `json:"last_checkpoint_seconds"` // from freeze to commit
	LastCheckpointAt      *time.Time `json:"last_checkpoint_at,omitempty"`
	Failures              int        `json:"failures"` // checkpoints that failed since the last good one
	LastError             *Error     `json:"last_error,omitempty"`

	Notify          string     `json:"notify,omitempty"`           // the socket on which it can speak
	Ready           bool       `json:"ready,omitempty"`            // it has said so
	Says            string     `json:"says,omitempty"`             // its own words on what it is doing
	HeldSince       *time.Time `json:"held_since,omitempty"`       // it wants no checkpoints by the clock
	WatchdogSeconds float64    `json:"watchdog_seconds,omitempty"` // how long it may be silent; 0: nobody waits

	Health string `json:"health,omitempty"` // what the last health check said: well, or why not; "" without one

	Damage *Error `json:"damage,omitempty"` // its own files are damaged, beside its generations; nil: they are whole

	Ended      bool   `json:"ended"`                 // how the command ended is known
	ExitCode   int    `json:"exit_code"`             // valid when Ended; 128+n for a signal
	ExitSignal string `json:"exit_signal,omitempty"` // "SIGKILL"

	Incident *Incident `json:"incident,omitempty"` // the open one
	Recovery *Recovery `json:"last_recovery,omitempty"`
	Notes    []string  `json:"notes,omitempty"` // what its owner should know

	Rehearsal *Rehearsal `json:"last_rehearsal,omitempty"`
	Offered   string     `json:"offered,omitempty"` // a newer generation than that of the last recovery, which lived in a rehearsal since
	Output    string     `json:"output"`            // path of the file that holds what it printed
}

// Auto is by what an interval is chosen.
type Auto struct {
	CheckpointSeconds float64 `json:"checkpoint_seconds"` // what a checkpoint costs: its pause, and a tenth of the rest
	CrashSeconds      float64 `json:"crash_seconds"`      // the mean time between crashes
}

// SlowFile is a file that is read while the program stands still, or a
// directory of --data whose names are looked at.
type SlowFile struct {
	Path      string  `json:"path"`
	SizeBytes int64   `json:"size_bytes"`      // of a file
	Files     int     `json:"files,omitempty"` // of a directory: how many names
	Seconds   float64 `json:"seconds"`
}

// Incident is a crash that no restored state has outlived yet.
type Incident struct {
	CrashedAt      time.Time  `json:"crashed_at"`
	Tries          int        `json:"tries"`
	ProbationUntil *time.Time `json:"probation_until,omitempty"`
}

// Rehearsal is what came of restoring a generation in a sandbox.
type Rehearsal struct {
	Generation   string    `json:"generation"`
	At           time.Time `json:"at"`
	Verdict      string    `json:"verdict"` // of the generation, now; "" when it could not be rehearsed
	Lived        bool      `json:"lived"`
	LivedSeconds float64   `json:"lived_seconds"`
	Why          string    `json:"why"` // "ended with SIGSEGV"
}

// Rehearsed is a rehearsal that a keeper is to note.
type Rehearsed struct {
	Generation string        `json:"generation"`
	At         time.Time     `json:"at"`
	For        time.Duration `json:"for"` // ns
	Lived      time.Duration `json:"lived"`
	Survived   bool          `json:"survived"`
	Why        string        `json:"why"`
	Tied       bool          `json:"tied,omitempty"` // some of its files could not be renamed or deleted
}

// Recovery is how a workload was last brought back.
type Recovery struct {
	At              time.Time  `json:"at"`
	Generation      string     `json:"generation"`           // "" when it was started afresh
	Older           bool       `json:"older"`                // not the newest generation
	CrashedAt       *time.Time `json:"crashed_at,omitempty"` // nil: it was not after a crash
	Tries           int        `json:"tries,omitempty"`      // since the crash, with those that were cut short
	LostWorkSeconds float64    `json:"lost_work_seconds"`
	Resets          int        `json:"resets"` // TCP connections that were reset
	Words           string     `json:"words"`  // "restored from g411, lost at most 0.8 s, 2 TCP connections reset"

	TookSeconds  float64  `json:"took_seconds"`         // from the first look at the generation until it ran
	AgeSeconds   float64  `json:"age_seconds"`          // how old the generation was
	ResetEnds    []string `json:"reset_ends,omitempty"` // of the first few connections: "10.0.0.1:80 to 10.0.0.7:50312"
	FilesWritten int      `json:"files_written"`        // that were put back
	FilesDeleted int      `json:"files_deleted"`        // that had come since
	FileNames    []string `json:"file_names,omitempty"` // the first few of both

	PassedOver []PassedOver `json:"passed_over,omitempty"` // newer generations, newest first
}

// PassedOver is a generation that was not taken though it is newer than the one
// that was.
type PassedOver struct {
	Generation string `json:"generation"`
	Why        string `json:"why"` // "manifests/g412 at 0: manifest: wrong checksum: damaged"
}

// GenerationRow is a generation in the table of a workload's generations.
type GenerationRow struct {
	Generation   string    `json:"generation"`
	CommittedAt  time.Time `json:"committed_at"`
	PauseSeconds float64   `json:"pause_seconds"`
	NewBytes     int64     `json:"new_bytes"`
	TotalBytes   int64     `json:"total_bytes"`
	Parent       string    `json:"parent"` // "" for the first
	Verdict      string    `json:"verdict"`
	Tag          string    `json:"tag"`
	Pinned       bool      `json:"pinned"`
	Streamed     bool      `json:"streamed,omitempty"` // it was larger than the buffer: the program stood still until the disk had taken the rest
}

// The verdicts on a generation.
const (
	Committed = "committed"
	Proven    = "proven"
	Doubtful  = "doubtful"
	Bad       = "bad"
)

// The requests that a keeper answers.
const (
	OpStatus     = "status"     // Status
	OpCheckpoint = "checkpoint" // Tag; Generation
	OpStop       = "stop"       // Signal, TimeoutSeconds; Status
	OpSet        = "set"        // Change; Status
	OpRestore    = "restore"    // Generation, Undo; Status
	OpSignal     = "signal"     // Signal
	OpAttach     = "attach"     // the connection becomes the terminal's
	OpWait       = "wait"       // answers when the workload has ended for good; Status
	OpPin        = "pin"        // Generation, Remove
	OpForget     = "forget"     // Generation, DryRun; Dropped, FreedBytes
	OpCollect    = "collect"    // DryRun; Dropped, FreedBytes
	OpJudge      = "judge"      // Rehearsed; Rehearsal
	OpRemove     = "remove"     // ends the workload without a checkpoint, and the keeper
	OpHalt       = "halt"       // GoingDown; ends it as a power cut right after a checkpoint would, and the keeper
)

// Request is one request to a keeper.
type Request struct {
	Version        int           `json:"version"`
	Op             string        `json:"op"`
	Tag            string        `json:"tag,omitempty"`
	Signal         int           `json:"signal,omitempty"`
	TimeoutSeconds float64       `json:"timeout_seconds,omitempty"`
	Generation     string        `json:"generation,omitempty"`
	Undo           bool          `json:"undo,omitempty"`
	Remove         bool          `json:"remove,omitempty"`     // of pin: let it go
	DryRun         bool          `json:"dry_run,omitempty"`    // only say what would be done
	GoingDown      bool          `json:"going_down,omitempty"` // of halt: so does the machine, end it also without a checkpoint
	Rehearsed      *Rehearsed    `json:"rehearsed,omitempty"`
	ReadOnly       bool          `json:"read_only,omitempty"`
	Change         *PolicyChange `json:"change,omitempty"`
}

// Reply is one line of an answer.
type Reply struct {
	Done       bool           `json:"done"`               // the last line
	Progress   string         `json:"progress,omitempty"` // words for a person
	Error      *Error         `json:"error,omitempty"`    // with Done
	Left       bool           `json:"left,omitempty"`     // with Done: the keeper has let go of the workload, and not looked at the request
	Status     *Status        `json:"status,omitempty"`
	Generation *GenerationRow `json:"generation,omitempty"`
	Rehearsal  *Rehearsal     `json:"rehearsal,omitempty"`
	Dropped    []string       `json:"dropped,omitempty"` // generations that are gone, or would go
	FreedBytes int64          `json:"freed_bytes,omitempty"`
}
