internal import Glibc

/// A pseudo-terminal that passes bytes on as they are: a process's stdin and stdout, for what looks whether it has a terminal.
final class Terminal {
  private let descriptor: Int32
  /// The process's end, kept open: else the terminal is gone as soon as nobody has it.
  private let other: Int32
  /// What the process opens.
  let path: String

  init() throws(VMMError) {
    var (descriptor, other): (Int32, Int32) = (-1, -1)
    var mode = termios()
    cfmakeraw(&mode)
    mode.c_cflag |= tcflag_t(CS8 | CREAD)
    var name = [CChar](repeating: 0, count: 64)
    guard openpty(&descriptor, &other, nil, &mode, nil) == 0,
      ttyname_r(other, &name, name.count) == 0
    else { throw .cannotStart(what: "a terminal", reason: String(cString: strerror(errno))) }
    for end in [descriptor, other] { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    (self.descriptor, self.other) = (descriptor, other)
    path = name.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
  }

  deinit {
    close(descriptor)
    close(other)
  }

  /// Whether all of it was taken.
  func send(_ text: String) -> Bool {
    let bytes = Array(text.utf8)
    return Glibc.write(descriptor, bytes, bytes.count) == bytes.count
  }

  /// What has come, within so many milliseconds: empty if nothing has.
  func receive(within milliseconds: Int) -> [UInt8] {
    var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    guard poll(&wait, 1, Int32(clamping: max(0, milliseconds))) > 0 else { return [] }
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = read(descriptor, &buffer, buffer.count)
    if count <= 0 { Stream.nap() }
    return Array(buffer[..<max(0, count)])
  }
}
