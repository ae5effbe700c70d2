internal import CKVM
internal import Glibc

// Requests that have to fail, and how they do; nil if one succeeds.

/// An address in the first page, which no process has.
private let nowhere: UInt = 16

private func error(_ request: String, _ result: Int32) -> KVMError? {
  result < 0 ? KVMError(request: request, errno: -result) : nil
}

extension VirtualMachine {
  /// `KVM_GET_CLOCK` into memory that does not exist.
  public func clockErrorOfBadAddress() -> KVMError? {
    error(
      "KVM_GET_CLOCK", ckvm_get_clock(descriptor.raw, UnsafeMutablePointer(bitPattern: nowhere)!))
  }

  /// `KVM_SET_CLOCK` from memory that does not exist.
  public func setClockErrorOfBadAddress() -> KVMError? {
    error(
      "KVM_SET_CLOCK", ckvm_set_clock(descriptor.raw, UnsafeMutablePointer(bitPattern: nowhere)!))
  }
}

/// What can be asked about a device attribute.
public enum AttributeRequest: String, CaseIterable, Sendable {
  case has = "KVM_HAS_DEVICE_ATTR"
  case get = "KVM_GET_DEVICE_ATTR"
  case set = "KVM_SET_DEVICE_ATTR"
}

extension VCPU {
  /// A request about an attribute that does not exist, beside `KVM_VCPU_TSC_OFFSET`.
  public func errorOfUnknownAttribute(_ request: AttributeRequest) -> KVMError? {
    var value: UInt64 = 0
    let result = withTSCOffsetAttribute(&value) { attribute in
      attribute.attr = UInt64(UInt32.max)
      return answer(request, &attribute)
    }
    return error(request.rawValue, result)
  }

  /// A request about `KVM_VCPU_TSC_OFFSET` whose value lies in memory that does not exist.
  public func errorOfBadAddress(_ request: AttributeRequest) -> KVMError? {
    var value: UInt64 = 0
    let result = withTSCOffsetAttribute(&value) { attribute in
      attribute.addr = UInt64(nowhere)
      return answer(request, &attribute)
    }
    return error(request.rawValue, result)
  }

  private func answer(_ request: AttributeRequest, _ attribute: inout kvm_device_attr) -> Int32 {
    switch request {
    case .has: ckvm_has_device_attr(descriptor.raw, &attribute)
    case .get: ckvm_get_device_attr(descriptor.raw, &attribute)
    case .set: ckvm_set_device_attr(descriptor.raw, &attribute)
    }
  }
}
