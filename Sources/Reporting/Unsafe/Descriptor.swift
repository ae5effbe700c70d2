internal import Glibc

/// Reads and writes on a descriptor, in Swift's own arrays.
public enum Descriptor {
  /// Writes all bytes, however many calls that takes.
  ///
  /// The corresponding C function is `write`, retried at `EINTR`.
  /// - Returns: 0, or `errno`.
  public static func write(_ bytes: [UInt8], to descriptor: Int32) -> Int32 {
    bytes.withUnsafeBytes { all in
      var rest = all[...]
      while !rest.isEmpty {
        let start = UnsafeRawBufferPointer(rebasing: rest).baseAddress
        let count = Glibc.write(descriptor, start, rest.count)
        if count < 0, errno == EINTR { continue }
        if count < 0 { return errno }
        rest = rest.dropFirst(count)
      }
      return 0
    }
  }

  /// Reads what is there, at most `size` bytes; none at the end of the file.
  ///
  /// The corresponding C function is `read`, retried at `EINTR`.
  static func read(_ descriptor: Int32, atMost size: Int) -> (bytes: [UInt8], errno: Int32) {
    var failure: Int32 = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: size) { buffer, initializedCount in
      var count: Int
      repeat {
        count = Glibc.read(descriptor, buffer.baseAddress, size)
      } while count < 0 && errno == EINTR
      failure = count < 0 ? errno : 0
      initializedCount = max(0, count)
    }
    return (bytes, failure)
  }
}
