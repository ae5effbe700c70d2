internal import ABIChecker
internal import KVM

extension Errno {
  init(_ error: KVMError) { self.init(error.errnoName) }

  /// An error number as a system call gives it; 0 for none.
  init(number: Int32) {
    self = number == 0 ? .none : Self(KVMError(request: "", errno: number))
  }
}
