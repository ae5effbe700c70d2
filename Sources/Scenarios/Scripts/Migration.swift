internal import ABIChecker

extension Scenario {
  /// MIG-PLAIN-CONTINUES, MIG-REALTIME-CONTINUES, MIG-STOPPED, MIG-OLDMSR-STATE, MIG-TSC-RELATION: one guest moves
  /// three times.
  @Sendable static func migration(_ stage: Stage) throws {
    try stage.makeMachine()
    for vcpu in [0, 1] { try stage.register(vcpu) }
    try stage.tellStopped(0)
    for vcpu in [0, 1] { try stage.read(vcpu) }
    try stage.migrate()
    try stage.migrate(realtime: true, telling: 1)
    try stage.register(0, MSR.systemTimeOld)
    for vcpu in [1, 0] { try stage.read(vcpu) }
    try stage.migrate(through: MSR.systemTimeOld)
    try stage.register(0, MSR.systemTimeOld)
    for vcpu in [1, 0] { try stage.read(vcpu) }
  }
}
