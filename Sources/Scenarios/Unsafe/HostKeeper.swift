internal import Glibc

/// Keeps a host's settings while a scenario changes them, and puts them back.
///
/// A second process knows them too and waits for the end of a pipe that only this process writes to: should this
/// process die, whatever the reason, that one puts them back.
final class HostKeeper {
  struct CannotKeep: Error, CustomStringConvertible {
    var description: String
  }

  private let settings = HostSettings.found()
  private var process: pid_t = 0
  private var pipe: Int32 = -1

  init(_ restorer: [String]) throws(CannotKeep) {
    guard let path = restorer.first else {
      throw CannotKeep(description: "the host is not changed where nothing would put it back")
    }
    var ends: [Int32] = [-1, -1]
    guard Glibc.pipe(&ends) == 0 else { throw Self.failed("pipe", errno) }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    defer { close(ends[0]) }
    pipe = ends[1]
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, ends[0], 0)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // A process group of its own: ^C at the terminal is not for it.
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
    let words = (restorer + settings.arguments).map { strdup($0) }
    defer { for word in words { free(word) } }
    let result = posix_spawn(&process, path, &actions, &attributes, words + [nil], environ)
    guard result == 0 else {
      close(pipe)
      throw Self.failed("posix_spawn of \(path)", result)
    }
  }

  private static func failed(_ what: String, _ error: Int32) -> CannotKeep {
    CannotKeep(description: "\(what): \(String(cString: strerror(error)))")
  }

  /// Puts the settings back; says what could not be put back.
  func restore() -> [String] {
    var problems = settings.restore()
    var status: Int32 = 0
    // A pipe that nobody reads would end this process.
    guard waitpid(process, &status, WNOHANG) == 0 else {
      close(pipe)
      problems.append("who was to put the host back had ended before (status \(status))")
      return problems
    }
    // What this process could not do, the other may not either, but it tries.
    if problems.isEmpty {
      let farewell = Array("done".utf8)
      _ = write(pipe, farewell, farewell.count)
    }
    close(pipe)
    while waitpid(process, &status, 0) < 0, errno == EINTR {}
    if status != 0 { problems.append("who was to put the host back ended with status \(status)") }
    return problems
  }
}
