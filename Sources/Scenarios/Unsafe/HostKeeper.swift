internal import Glibc

/// Keeps a host's settings while a scenario changes them, and puts them back.
///
/// A second process knows them too and waits for the end of its input, which only this process writes: should this
/// process die, whatever the reason, that one puts them back. Nothing is changed before it has said that it is there.
/// One host has one keeper at a time: a second one would take for the host's own what the first one has changed.
public final class HostKeeper {
  struct CannotKeep: Error, CustomStringConvertible {
    var description: String
  }

  private let settings: HostSettings
  private var process: pid_t = 0
  /// Its input and its output are the other end. The kernel closes this one when this process ends.
  private var socket: Int32 = -1

  init(_ restorer: [String], patience: Duration = .seconds(60)) throws(CannotKeep) {
    guard let path = restorer.first else {
      throw CannotKeep(description: "the host is not changed where nothing would put it back")
    }
    // The second process has it too: a host whose first process was killed is not free before all is put back.
    let lock = try Self.lock(patience)
    defer { close(lock) }
    settings = HostSettings.found()
    var ends: [Int32] = [-1, -1]
    let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else { throw Self.failed("socketpair", errno) }
    socket = ends[0]
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, ends[1], 0)
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
    posix_spawn_file_actions_adddup2(&actions, lock, Self.lockOfRestorer)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // A process group of its own: ^C at the terminal is not for it.
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
    let words = (restorer + settings.arguments).map { strdup($0) }
    defer { for word in words { free(word) } }
    let result = posix_spawn(&process, path, &actions, &attributes, words + [nil], environ)
    close(ends[1])
    guard result == 0 else {
      close(socket)
      throw Self.failed("posix_spawn of \(path)", result)
    }
    guard Self.isReady(socket) else {
      close(socket)
      kill(process, SIGKILL)
      waitForEnd()
      throw CannotKeep(
        description: "the host is not changed: \(path), which would put it back, did not start")
    }
  }

  private static let lockOfRestorer: Int32 = 3

  /// Takes the host for this keeper alone, by a lock that ends with the last process that has it open.
  private static func lock(_ patience: Duration) throws(CannotKeep) -> Int32 {
    let opened = open(HostSettings.clocksource, O_RDONLY | O_CLOEXEC)
    guard opened >= 0 else { throw failed("open of \(HostSettings.clocksource)", errno) }
    // Above the numbers that the second process has its ends at, also where this one was started without any.
    let descriptor = fcntl(opened, F_DUPFD_CLOEXEC, lockOfRestorer + 1)
    let duplication = errno
    close(opened)
    guard descriptor >= 0 else { throw failed("fcntl of F_DUPFD_CLOEXEC", duplication) }
    let deadline = ContinuousClock.now + patience
    while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
      let error = errno
      if error == EWOULDBLOCK, ContinuousClock.now < deadline {
        // The other run changes the host for seconds: to come 20 ms late costs nothing, and 50 looks a second cost little.
        usleep(20_000)
      } else if error != EINTR {
        close(descriptor)
        guard error == EWOULDBLOCK else {
          throw failed("flock of \(HostSettings.clocksource)", error)
        }
        throw CannotKeep(
          description: "the host is not changed: another `kvmclock run --change-host` changes it, "
            + "for more than \(patience); run one after the other")
      }
    }
    return descriptor
  }

  /// What the second process says once it would put the host back.
  public static let readiness = "ready\n"

  private static func isReady(_ descriptor: Int32) -> Bool {
    var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    var result: Int32
    repeat { result = poll(&waiting, 1, 10_000) } while result < 0 && errno == EINTR
    var said = [UInt8](repeating: 0, count: 16)
    let count = result == 1 ? read(descriptor, &said, said.count) : 0
    return said.prefix(max(0, count)).elementsEqual(readiness.utf8)
  }

  private func waitForEnd() {
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0, errno == EINTR {}
  }

  private static func failed(_ what: String, _ error: Int32) -> CannotKeep {
    CannotKeep(description: "\(what): \(String(cString: strerror(error)))")
  }

  /// Puts the settings back; says what could not be put back.
  func restore() -> [String] {
    var problems = settings.restore()
    var status: Int32 = 0
    guard waitpid(process, &status, WNOHANG) == 0 else {
      close(socket)
      problems.append("who was to put the host back had ended before (status \(status))")
      return problems
    }
    // What this process could not do, the other may not either, but it tries.
    if problems.isEmpty {
      let farewell = Array("done".utf8)
      // It may end just now: without the flag this process would, too.
      _ = send(socket, farewell, farewell.count, Int32(MSG_NOSIGNAL))
    }
    close(socket)
    while waitpid(process, &status, 0) < 0, errno == EINTR {}
    if status != 0 { problems.append("who was to put the host back ended with status \(status)") }
    return problems
  }
}
