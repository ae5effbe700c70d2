internal import Glibc

/// A stream socket that somebody else listens on, read with a deadline.
final class Stream {
  private let descriptor: Int32

  /// Connects to a unix socket as soon as somebody listens there.
  ///
  /// - Parameter isAlive: asked while nobody does; `false` ends the wait.
  init(path: String, milliseconds: Int, isAlive: () throws(VMMError) -> Void) throws(VMMError) {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let room = MemoryLayout.size(ofValue: address.sun_path)
    guard path.utf8.count < room else {
      throw .cannotStart(
        what: "a connection", reason: "\(path) is longer than a socket's name can be")
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let end = milliseconds + Self.now
    while true {
      let descriptor = socket(
        AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
      let result = withUnsafePointer(to: address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
      }
      if result == 0 {
        self.descriptor = descriptor
        return
      }
      close(descriptor)
      try isAlive()
      guard Self.now < end else {
        throw .timedOut(what: "a listener on \(path)", milliseconds: milliseconds)
      }
      Self.nap()
    }
  }

  deinit { close(descriptor) }

  /// Between two looks at what tells nobody that it changes: 1 ms.
  ///
  /// Measured on two busy CPUs, runs in turn. A toy VMM's pauses took 2.1 to 3.0 s with 20 us, 2.1 to 2.6 s with 1 ms, 6.1 to 6.7 s with
  /// 5 ms and 7.3 to 8.0 s with 20 ms; QEMU's shares without hot-plug took 9 to 11 s with 20 us, 1 ms and 5 ms, and 10.9 to 14.5 s with 20 ms.
  static func nap() { usleep(1000) }

  static var now: Int {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec * 1000 + time.tv_nsec / 1_000_000
  }

  /// Whether all of it was taken.
  func send(_ text: String) -> Bool {
    let bytes = Array(text.utf8)
    var sent = 0
    while sent < bytes.count {
      let result = bytes[sent...].withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      if result < 0, errno == EINTR { continue }
      guard result > 0 else { return false }
      sent += result
    }
    return true
  }

  /// What has come, within so many milliseconds: empty if nothing has, nil if nothing will.
  func receive(within milliseconds: Int, atMost count: Int = 4096) -> [UInt8]? {
    var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    guard poll(&wait, 1, Int32(clamping: max(0, milliseconds))) > 0 else { return [] }
    var buffer = [UInt8](repeating: 0, count: count)
    let result = recv(descriptor, &buffer, count, 0)
    if result < 0 { return errno == EINTR ? [] : nil }
    return result == 0 ? nil : Array(buffer[..<result])
  }
}
