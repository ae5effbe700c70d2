internal import CKVM
internal import Glibc

extension VCPU {
  /// The value of one MSR.
  ///
  /// The corresponding request is `KVM_GET_MSRS`.
  /// - Throws: `KVMError` naming the request, with `errno`; `EINVAL` where KVM refuses the MSR.
  public func msr(_ index: UInt32) throws(KVMError) -> UInt64 {
    guard let value = try msrs([index]).first else {
      throw Self.refusal("KVM_GET_MSRS", index)
    }
    return value
  }

  /// The values of several MSRs, at most 256, up to the first one that KVM refuses to read.
  ///
  /// The corresponding request is `KVM_GET_MSRS`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func msrs(_ indices: [UInt32]) throws(KVMError) -> [UInt64] {
    let array = FlexibleArray(msrs: indices.map { (index: $0, value: 0) })
    let result = array.call { ckvm_get_msrs(descriptor.raw, $0) }
    let processed = try check("KVM_GET_MSRS", result)
    return array.prefix(UInt32(processed)).map(\.data)
  }

  /// Writes one MSR.
  ///
  /// The corresponding request is `KVM_SET_MSRS`.
  /// - Throws: `KVMError` naming the request, with `errno`; `EINVAL` where KVM refuses the write.
  public func setMSR(_ index: UInt32, to value: UInt64) throws(KVMError) {
    guard try setMSRs([(index, value)]) == 1 else {
      throw Self.refusal("KVM_SET_MSRS", index)
    }
  }

  /// Writes several MSRs, at most 256, up to the first refused one; the result counts the written.
  ///
  /// The corresponding request is `KVM_SET_MSRS`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setMSRs(_ msrs: [(UInt32, UInt64)]) throws(KVMError) -> Int {
    let array = FlexibleArray(msrs: msrs.map { (index: $0.0, value: $0.1) })
    return Int(try check("KVM_SET_MSRS", array.call { ckvm_set_msrs(descriptor.raw, $0) }))
  }

  private static func refusal(_ request: String, _ index: UInt32) -> KVMError {
    let msr = "0x" + String(index, radix: 16)
    return KVMError(
      request: request, errno: EINVAL,
      remedy: """
        The kernel refused MSR \(msr): it does not have the MSR, the vCPU's CPUID does not offer \
        it, or the value is not allowed.
        """)
  }
}
