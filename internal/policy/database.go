package policy

import "path/filepath"

// databases are the programs that keep their own durable state.
var databases = map[string]string{
	"postgres": "PostgreSQL", "postmaster": "PostgreSQL", "mysqld": "MySQL", "mariadbd": "MariaDB", "etcd": "etcd",
}

// wrappers run the command that their arguments name.
var wrappers = map[string]bool{
	"sudo": true, "runuser": true, "setpriv": true, "su": true, "gosu": true, "chpst": true, "env": true, "nice": true, "exec": true,
}

// KeepsState names the database that a command is, "" when it is none: one
// that says nothing acknowledged is lost in a crash, as long as nobody rolls
// its files back.
func KeepsState(argv []string) string {
	if len(argv) == 0 {
		return ""
	}
	if db := databases[filepath.Base(argv[0])]; db != "" {
		return db
	}
	if wrappers[filepath.Base(argv[0])] {
		for _, a := range argv[1:] {
			if db := databases[filepath.Base(a)]; db != "" {
				return db
			}
		}
	}
	return redisLog(argv)
}

// redisLog names a redis that keeps an append-only file by its arguments.
func redisLog(argv []string) string {
	if filepath.Base(argv[0]) != "redis-server" {
		return ""
	}
	for i, a := range argv[1:] {
		if a == "--appendonly" && i+2 < len(argv) && argv[i+2] == "yes" {
			return "redis with an append-only file"
		}
	}
	return ""
}
