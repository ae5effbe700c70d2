internal import Glibc

/// A request that the kernel refused: its name, `errno`, and what can be done about it.
public struct KVMError: Error, Hashable, Sendable {
  /// The name of the request that failed, such as `KVM_CREATE_VM`.
  public let request: String

  /// The error number as the kernel gave it.
  public let errno: Int32

  /// What the reader of the error can do about it, in whole sentences; `nil` if nothing is known.
  public let remedy: String?

  /// What the request returned, where it is documented to return 0 or an error and did neither; `errno` is 0 then.
  public let result: Int32?

  /// An error with a remedy of the caller's own, or with none.
  public init(request: String, errno: Int32, remedy: String?) {
    self.request = request
    self.errno = errno
    self.remedy = remedy
    result = nil
  }

  /// A request that did not fail and did not return 0 either.
  public init(request: String, result: Int32) {
    self.request = request
    errno = 0
    remedy = nil
    self.result = result
  }

  /// An error with the remedy that is known for this request and error number, if there is one.
  public init(request: String, errno: Int32) {
    self.init(request: request, errno: errno, remedy: Remedy.of(request: request, errno: errno))
  }

  /// The error number's name, such as `EINVAL`; one without a known name is `E` and its digits.
  public var errnoName: String {
    ErrnoName.of[errno] ?? "E\(errno)"
  }
}

extension KVMError: CustomStringConvertible {
  /// Request, meaning, name and number of the error, and the remedy, on one line.
  public var description: String {
    if let result { return "\(request) returned \(result), where 0 is success" }
    let meaning = String(cString: strerror(errno))
    let failure = "\(request) failed: \(meaning) (\(errnoName), errno \(errno))"
    guard let remedy else { return failure }
    return "\(failure). Remedy: \(remedy)"
  }
}

/// What a wrapper returned, or the error that its negative result stands for.
///
/// - Throws: `KVMError` naming `request`, with `errno`.
@discardableResult
func check(_ request: String, _ result: Int32) throws(KVMError) -> Int32 {
  guard result >= 0 else { throw KVMError(request: request, errno: -result) }
  return result
}

/// The same for a request that is documented to return 0 on success.
///
/// - Throws: `KVMError` naming `request`, with `errno` or with what else was returned.
func checkZero(_ request: String, _ result: Int32) throws(KVMError) {
  guard try check(request, result) == 0 else { throw KVMError(request: request, result: result) }
}
