internal import ABIChecker

extension Scenario {
  /// MANY-VCPUS-REGISTER, MANY-VCPUS-ORDER, MANY-VCPUS-SETCLOCK: as many vCPUs as the run was asked for, one after
  /// another.
  @Sendable static func many(_ stage: Stage) throws {
    let vcpus = 0..<stage.vcpus
    try stage.makeMachine(vcpus: Array(vcpus))
    for vcpu in vcpus { try stage.register(vcpu) }
    for vcpu in vcpus.reversed() { try stage.read(vcpu) }
    try stage.setClock(stage.random.next() >> 8)
    // Twice: of so many readings one or the other loses its core, and says little.
    for vcpu in vcpus { try stage.read(vcpu) }
    for vcpu in vcpus.reversed() { try stage.read(vcpu) }
  }
}
