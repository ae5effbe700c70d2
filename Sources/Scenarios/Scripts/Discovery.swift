internal import ABIChecker
internal import KVM

extension Scenario {
  /// MSR-INDEX-LIST, CPUID-FEATURES, CAP-ADJUST-CLOCK, OFFERED-BY-VERSION: what KVM says of itself.
  @Sendable static func discovery(_ stage: Stage) throws {
    let system = stage.host
    _ = try stage.note(
      { .msrIndexList(indices: $0.map { Hex($0) }) }, of: { try system.system.msrIndexList() })
    let cpuid = try system.system.supportedCPUID()
    for function: UInt32 in [0x4000_0000, 0x4000_0001] {
      // A leaf that is not there reads as zeroes.
      let entry = cpuid.first { $0.function == function }
      stage.note(
        .supportedCPUID(
          function: Hex(function), eax: Hex(entry?.eax ?? 0), ebx: Hex(entry?.ebx ?? 0),
          ecx: Hex(entry?.ecx ?? 0), edx: Hex(entry?.edx ?? 0)))
    }
    _ = try stage.note(
      { .capability(name: "KVM_CAP_ADJUST_CLOCK", value: $0) },
      of: { try system.system.checkExtension(.adjustClock) })
    try stage.makeMachine(vcpus: [])
    try stage.getClock()
    for capability: Capability in [
      .getTSCKHz, .kvmclockCtrl, .enforcePVFeatureCPUID, .userSpaceMSR, .msrFilter, .vcpuAttributes,
    ] { try stage.noteCapability(capability) }
    try stage.makeMachine(vcpus: [0])
    let hasOffset = try stage.hasTSCOffset(0)
    stage.note(.capability(name: "KVM_VCPU_TSC_OFFSET", value: hasOffset ? 1 : 0))
    try stage.register(0)
    try stage.getClock()
    try stage.register(0, MSR.systemTimeOld)
    try stage.getClock()
  }

  /// STABLE-INDEP-CPUID24: two machines that differ in one bit of CPUID.
  @Sendable static func cpuid24(_ stage: Stage) throws {
    for isSet in [true, false] {
      try stage.makeMachine(vcpus: [0]) { isSet ? $0 | 1 << 24 : $0 & ~(1 << 24) }
      try stage.register(0)
      try stage.enter(0)
      stage.look(0)
      try stage.getClock()
    }
  }
}
