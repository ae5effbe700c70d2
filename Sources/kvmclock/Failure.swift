import KVM
import Reporting

/// Why the command can't do what was asked: a message for stderr, and the exit status.
struct Failure: Error {
  var code: Int32
  var message: String

  init(_ code: Int32, _ message: String) {
    self.code = code
    self.message = message
  }

  /// EX_DATAERR, EX_NOINPUT or EX_IOERR of sysexits.h.
  init(_ error: FileError) {
    let code: Int32 =
      switch error.kind {
      case .badData: 65
      case .unreadable: 66
      case .unwritable: 74
      }
    self.init(code, "kvmclock: \(error)")
  }

  /// EX_UNAVAILABLE.
  init(_ error: KVMError) { self.init(69, "kvmclock: \(error)") }
}
