internal import CKVM

/// Reads or writes the one 64-bit value behind a vCPU's TSC-offset attribute.
///
/// The kernel takes the value's address as a number, so the value has to stay in place meanwhile.
func withTSCOffsetAttribute(
  _ value: inout UInt64, _ body: (inout kvm_device_attr) -> Int32
) -> Int32 {
  withUnsafeMutablePointer(to: &value) { address in
    var attribute = kvm_device_attr()
    attribute.group = UInt32(KVM_VCPU_TSC_CTRL)
    attribute.attr = UInt64(KVM_VCPU_TSC_OFFSET)
    attribute.addr = UInt64(UInt(bitPattern: address))
    return body(&attribute)
  }
}
