internal import ABIChecker
internal import VMBuilder

extension Scenario {
  /// MANY-VCPUS-REGISTER, MANY-VCPUS-ORDER, MANY-VCPUS-SETCLOCK: as many vCPUs as the run was asked for, one after
  /// another. Their records stand as Linux has them: 64 bytes each, side by side.
  @Sendable static func many(_ stage: Stage) throws {
    let vcpus = 0..<stage.vcpus
    try stage.makeMachine(vcpus: Array(vcpus))
    let began = Moment.before().raw
    for vcpu in vcpus {
      let (group, place) = vcpu.quotientAndRemainder(dividingBy: 64)
      try stage.register(vcpu, at: Layout.clockPage(group) + UInt64(place) * 64)
    }
    // Up to Linux 6.18 all records are made anew 100 ms after a write of the MSR, each in its vCPU's next entry: where so
    // many take long to register, that would hide a vCPU which the setting does not reach.
    if Moment.after().raw - began > 30_000_000 { try stage.sleep(milliseconds: 120) }
    for vcpu in vcpus.reversed() { try stage.read(vcpu) }
    try stage.setClock(stage.random.next() >> 8)
    // Twice: of so many readings one or the other loses its core, and says little.
    for vcpu in vcpus { try stage.read(vcpu) }
    for vcpu in vcpus.reversed() { try stage.read(vcpu) }
  }
}
