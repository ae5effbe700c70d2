internal import CInside
internal import Glibc
internal import PVClock

/// A small file of the kernel's; nil if it can't be read.
func readFile(_ path: String) -> String? {
  let file = open(path, O_RDONLY | O_CLOEXEC)
  guard file >= 0 else { return nil }
  defer { close(file) }
  var bytes: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 1 << 16)
  while bytes.count < 1 << 24 {
    let count = read(file, &buffer, buffer.count)
    if count < 0, errno == EINTR { continue }
    guard count > 0 else { break }
    bytes += buffer.prefix(count)
  }
  return String(decoding: bytes, as: UTF8.self)
}

/// The release of the running kernel, as `uname -r` has it.
func kernelRelease() -> String {
  var name = utsname()
  uname(&name)
  return withUnsafeBytes(of: &name.release) { bytes in
    String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
  }
}

/// Copies the first 32 bytes of pages that may not be there.
///
/// A load from such a page of the vDSO's is SIGBUS. Where the kernel itself reads it, for write(2), the error is EFAULT.
/// process_vm_readv(2) and /proc/self/mem refuse these mappings altogether.
struct PageProbe: ~Copyable {
  private let reader, writer: Int32

  /// Nil where no pipe can be had.
  init?() {
    var ends: [Int32] = [0, 0]
    guard inside_pipe(&ends) == 0 else { return nil }
    (reader, writer) = (ends[0], ends[1])
  }

  deinit {
    close(reader)
    close(writer)
  }

  func bytes(at address: UInt64) -> [UInt8]? {
    var copy = [UInt8](repeating: 0, count: ClockPage.size)
    guard let page = UnsafeRawPointer(bitPattern: UInt(address)),
      write(writer, page, copy.count) == copy.count,
      read(reader, &copy, copy.count) == copy.count
    else { return nil }
    return copy
  }
}
