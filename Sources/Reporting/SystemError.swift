internal import Glibc

/// What an error number of a file operation means to the person in front of the screen.
enum SystemError {
  static func text(_ errno: Int32) -> String { "\(String(cString: strerror(errno)))" }

  static func remedy(_ errno: Int32, writing: Bool) -> String? {
    switch errno {
    case ENOSPC, EDQUOT: "free some space there, or name a folder on another disk"
    case ENOENT: writing ? "create the folder first" : "check the name"
    case EACCES, EPERM:
      writing
        ? "choose a folder that you may write to, or change its permissions"
        : "change its permissions, or run as its owner"
    case EROFS: "the file system is mounted read-only: choose another folder"
    case EISDIR: "name a file in it"
    case ENOTDIR: "a part of the path is a file: choose another path"
    case EMFILE, ENFILE: "raise the limit on open files (ulimit -n)"
    case EFBIG: "raise the limit on the size of files (ulimit -f)"
    case ENAMETOOLONG: "choose a shorter path"
    case EIO: "the disk may be failing: see the kernel's log"
    default: nil
    }
  }
}
