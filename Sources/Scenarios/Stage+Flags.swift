internal import ABIChecker
internal import KVM
internal import PVClock
internal import VMBuilder

extension Stage {
  /// Asks KVM to tell the guest that it was stopped; a refusal is written down like an agreement.
  func tellStopped(_ vcpu: Int) throws {
    let answer = try machine.tellStopped(vcpu)
    record(
      .host, answer.began, answer.ended,
      .toldStopped(vcpu: vcpu, errno: Errno(number: answer.value)))
  }

  /// The guest takes the news: it clears bit 1 of its record's flags.
  func clearStopped(_ vcpu: Int) throws {
    let address = records[vcpu]!
    let page = machine.record(at: address)
    let flags = page.flags.subtracting(.guestStopped)
    try poke(
      vcpu, address + 28,
      UInt32(UInt8(bitPattern: page.tscShift)) | UInt32(flags.rawValue) << 8
        | UInt32(page.pad) << 16)
  }

  /// Every vCPU enters twice, so that what one entry asked of another vCPU is served; then the host looks.
  func settleAndLook() throws {
    for _ in 0..<2 {
      for vcpu in machine.vcpus { try enter(vcpu) }
    }
    for vcpu in machine.vcpus { look(vcpu) }
    try getClock()
  }
}
