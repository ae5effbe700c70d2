internal import CKVM
internal import Glibc

/// An open file that is closed when its owner goes away.
struct FileDescriptor: ~Copyable, Sendable {
  let raw: Int32

  /// Takes over a descriptor that nobody else will close.
  init(owning raw: Int32) {
    self.raw = raw
  }

  /// Opens a device for reading and writing, not to be inherited across `exec`.
  ///
  /// The corresponding C function is `open`.
  /// - Throws: `KVMError` naming `open` and the path, with `errno`.
  init(opening path: String) throws(KVMError) {
    let result = path.withCString { ckvm_open($0) }
    guard result >= 0 else {
      throw KVMError(
        request: "open \(path)", errno: -result,
        remedy: Remedy.ofOpening(path: path, errno: -result))
    }
    self.init(owning: result)
  }

  deinit {
    // On Linux the descriptor is gone whatever close() returns, so there is nothing to retry.
    if raw >= 0 { _ = close(raw) }
  }
}
