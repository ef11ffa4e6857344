package release

// ValidatePath checks one path.
func ValidatePath(p string) error { panic("todo") }

// checkTree checks what holds between paths.
func checkTree(files []File) error { panic("todo") }
