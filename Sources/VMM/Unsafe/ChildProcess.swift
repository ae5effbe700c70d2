internal import FoundationEssentials
internal import Glibc

/// A process that this one starts, and that ends with its owner.
final class ChildProcess {
  private let id: pid_t
  private let output: String
  private var status: Int32?

  /// - Parameters:
  ///   - output: the file that gets what it says on stderr, and on stdout if it has no terminal.
  ///   - terminal: what its stdin and stdout are, if that is a terminal.
  init(_ words: [String], output: String, terminal: String? = nil) throws(VMMError) {
    guard Self.path(of: words[0]) != nil else {
      throw .cannotStart(what: words[0], reason: "there is no program of this name that can be run")
    }
    self.output = output
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(
      &actions, 0, terminal ?? "/dev/null", terminal == nil ? O_RDONLY : O_RDWR | O_NOCTTY, 0)
    posix_spawn_file_actions_addopen(&actions, 2, output, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    posix_spawn_file_actions_adddup2(&actions, terminal == nil ? 2 : 0, 1)
    let pipe = Self.unusedNumber
    posix_spawn_file_actions_adddup2(&actions, Janitor.shared.pipe, pipe)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // A process group of its own: ^C at the terminal is not for it.
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
    // The process tells the janitor of itself before it becomes the program: this one may be killed at any moment.
    let announced = ["sh", "-c", #"echo "+ $$" >&\#(pipe); exec "$0" "$@" \#(pipe)>&-"#] + words
    let arguments = announced.map { strdup($0) }
    defer { for argument in arguments { free(argument) } }
    var id: pid_t = 0
    let result = posix_spawn(&id, "/bin/sh", &actions, &attributes, arguments + [nil], environ)
    guard result == 0 else {
      throw .cannotStart(what: words[0], reason: String(cString: strerror(result)))
    }
    self.id = id
  }

  deinit { end() }

  /// A number that a shell can use and at which this process was not given a file: the program may be meant to have that.
  private static var unusedNumber: Int32 {
    (3...9).last {
      let flags = fcntl($0, F_GETFD)
      return flags < 0 || flags & FD_CLOEXEC != 0
    } ?? 9
  }

  /// Where a program is: a path as it is, a name in PATH.
  static func path(of name: String) -> String? {
    if name.contains("/") { return access(name, X_OK) == 0 ? name : nil }
    let folders = getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/usr/local/bin"
    return folders.split(separator: ":").map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
  }

  /// How it ended; nil while it runs.
  var ending: String? {
    if status == nil {
      var status: Int32 = 0
      if waitpid(id, &status, WNOHANG) == id {
        self.status = status
        Janitor.shared.note("- \(id)")
      }
    }
    guard let status else { return nil }
    return status & 0x7f == 0 ? "exit status \(status >> 8 & 0xff)" : "signal \(status & 0x7f)"
  }

  /// The end of what it said.
  var said: String {
    guard let file = fopen(output, "r") else { return "" }
    defer { fclose(file) }
    var buffer = [UInt8](repeating: 0, count: 4096)
    var text: [UInt8] = []
    while true {
      let count = fread(&buffer, 1, buffer.count, file)
      if count == 0 { break }
      text = Array((text + buffer[..<count]).suffix(8192))
    }
    let lines = String(decoding: text, as: UTF8.self).split(whereSeparator: \.isNewline)
    let errors = lines.filter { !$0.lowercased().contains("warning:") }
    return (errors.isEmpty ? lines : errors).suffix(3).joined(separator: " / ")
  }

  /// - Throws: `VMMError.ended` if it has.
  func requireAlive() throws(VMMError) {
    if let ending { throw .ended(how: ending, said: said) }
  }

  /// Waits for its end.
  func ends(within milliseconds: Int) -> Bool {
    let end = Stream.now + milliseconds
    while ending == nil {
      guard Stream.now < end else { return false }
      Stream.nap()
    }
    return true
  }

  /// Ends the whole group.
  func end() {
    guard ending == nil else { return }
    kill(-id, SIGKILL)
    kill(id, SIGKILL)
    _ = ends(within: 5000)
  }
}

/// A folder in /tmp for sockets and states, gone with its owner.
final class Workplace {
  let path: String

  init() throws(VMMError) {
    let folder = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    guard !folder.contains(where: \.isNewline) else {
      throw .cannotStart(what: "a folder in TMPDIR", reason: "the name of TMPDIR has a line break")
    }
    path = "\(folder)/kvmclock-vmm-\(String(UInt64.random(in: 0 ... .max), radix: 36))"
    // First, for this process may be killed at any moment.
    Janitor.shared.note("/ \(path)")
    guard mkdir(path, 0o700) == 0 else {
      throw .cannotStart(what: "a folder in \(folder)", reason: String(cString: strerror(errno)))
    }
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func write(_ bytes: [UInt8], to name: String) throws(VMMError) -> String {
    let path = "\(self.path)/\(name)"
    let file = fopen(path, "w")
    guard let file, fwrite(bytes, 1, bytes.count, file) == bytes.count, fclose(file) == 0 else {
      throw .cannotStart(what: path, reason: String(cString: strerror(errno)))
    }
    return path
  }
}

/// A shell that clears up after this process, however it ends: a VMM must not run on when nobody asks it any more.
private final class Janitor: Sendable {
  static let shared = Janitor()

  /// Reads what there is until this process is gone; then ends the process groups and removes the folders.
  private static let script = """
    while IFS= read -r line; do
      which=${line#??}
      case $line in
        "+ "*) groups="$groups $which " ;;
        "- "*) groups="${groups%% $which *} ${groups#* $which }" ;;
        "/ "*) set -- "$@" "$which" ;;
      esac
    done
    for group in $groups; do kill -s KILL -- "-$group"; done
    for folder; do rm -rf -- "$folder"; done
    """

  let pipe: Int32

  private init() {
    var ends: [Int32] = [-1, -1]
    Glibc.pipe(&ends)
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, ends[0], 0)
    for stream: Int32 in [1, 2] {
      posix_spawn_file_actions_addopen(&actions, stream, "/dev/null", O_WRONLY, 0)
    }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // A process group of its own: ^C at the terminal is not for it.
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
    let arguments = (["sh", "-c", Self.script] as [String]).map { strdup($0) }
    defer { for argument in arguments { free(argument) } }
    var id: pid_t = 0
    let result = posix_spawn(&id, "/bin/sh", &actions, &attributes, arguments + [nil], environ)
    close(ends[0])
    if result != 0 { close(ends[1]) }
    pipe = result == 0 ? ends[1] : -1
  }

  func note(_ line: String) {
    let bytes = Array("\(line)\n".utf8)
    _ = Glibc.write(pipe, bytes, bytes.count)
  }
}
