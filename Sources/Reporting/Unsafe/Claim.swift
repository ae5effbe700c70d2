internal import Glibc

/// A name in a folder that one process of this host has for itself, until it lets go or ends.
///
/// It is bound as the name of an abstract socket: whatever ends the process, nothing is left behind.
public final class Claim: Sendable {
  private let descriptor: Int32

  /// Nil where another process has it.
  public init?(_ name: String, in folder: String) {
    var status = stat()
    descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    // Without sockets, or the folder, nothing can be claimed, and nothing is refused.
    guard descriptor >= 0, stat(folder, &status) == 0 else { return }
    let text = Array("\0kvmclock \(status.st_dev):\(status.st_ino) \(name)".utf8)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: text.prefix($0.count)) }
    let length = MemoryLayout<sa_family_t>.size + min(text.count, 108)
    let result = withUnsafeBytes(of: &address) { bytes in
      bind(
        descriptor, bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t(length))
    }
    if result != 0, errno == EADDRINUSE { return nil }
  }

  deinit { if descriptor >= 0 { _ = close(descriptor) } }
}
