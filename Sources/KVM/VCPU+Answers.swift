extension VCPU {
  /// Answers an `.in` exit; the low bytes of `value` go to each of its items.
  public mutating func completeIn(value: UInt32) {
    area.completeIn(value: value)
  }

  /// Every item of the last `.in` or `.out` exit as bytes, in order.
  public func portData() -> [UInt8] {
    area.copyPortData()
  }

  /// Answers an `.mmioRead` exit with the low bytes of `value`.
  public mutating func completeMMIORead(value: UInt64) {
    area.completeMMIORead(value: value)
  }

  /// Answers a `.readMSR` exit; `nil` makes the guest's RDMSR fault.
  public mutating func completeReadMSR(value: UInt64?) {
    area.completeReadMSR(value: value)
  }

  /// Answers a `.writeMSR` exit; an access that is not accepted faults in the guest.
  public mutating func completeWriteMSR(accepted: Bool) {
    area.completeWriteMSR(accepted: accepted)
  }
}
