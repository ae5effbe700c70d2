internal import ABIChecker
internal import KVM
internal import PVClock
internal import VMBuilder

extension Scenario {
  private static let apicBase: UInt32 = 0x1b
  private static let x2apicInterruptCommand: UInt32 = 0x830

  /// REPLUG-VCPU0-KEEPS-TIME: INIT from vCPU 1, then a reset by the host.
  @Sendable static func replug(_ stage: Stage) throws {
    let hasIRQChip = try stage.makeMachineWithIRQChip(for: "INIT between vCPUs")
    for vcpu in [0, 1] { try stage.register(vcpu) }
    try stage.read(0)
    try stage.sleep(milliseconds: 5)
    if hasIRQChip, try sendINIT(stage, from: 1, to: 0) {
      _ = try stage.hostReadMSR(0, MSR.systemTime)
      try comeBack(stage)
    }
    try stage.read(0)
    try stage.sleep(milliseconds: 5)
    try stage.hostWriteMSR(0, MSR.systemTime, 0)
    stage.note(.replugged(vcpu: 0, how: .userSpace))
    try comeBack(stage)
  }

  private static func comeBack(_ stage: Stage) throws {
    try stage.boot(0, .agentLong)
    try stage.getClock()
    try stage.register(0)
    try stage.getClock()
  }

  /// One vCPU sends INIT to another through its x2APIC; whether it arrived.
  static func sendINIT(_ stage: Stage, from sender: Int, to target: Int) throws -> Bool {
    // The boot vCPU has bit 8.
    let base: UInt64 = 0xfee0_0000 | 1 << 11 | 1 << 10 | (sender == 0 ? 1 << 8 : 0)
    if try stage.writeMSR(sender, apicBase, base) != nil {
      stage.lacks("INIT between vCPUs needs the x2APIC", "WRMSR of IA32_APIC_BASE raised a fault")
      return false
    }
    // Level, assert, INIT.
    let command = UInt64(target) << 32 | 0x4500
    if try stage.writeMSR(sender, x2apicInterruptCommand, command) != nil {
      stage.lacks(
        "INIT between vCPUs needs the x2APIC", "WRMSR of the interrupt command raised a fault")
      return false
    }
    // KVM acts on a pending INIT before it tells the state.
    let instructionPointer = try stage.machine.withVCPU(target) { vcpu throws(KVMError) in
      let interrupter = vcpu.interrupter
      interrupter.requestImmediateExit(true)
      defer { interrupter.requestImmediateExit(false) }
      _ = try vcpu.run()
      _ = try vcpu.mpState()
      return try vcpu.registers().rip
    }.value
    guard instructionPointer == 0xfff0 else {
      stage.lacks(
        "INIT between vCPUs",
        "vcpu\(target) is at \(Hex(instructionPointer)), not at its reset vector 0xfff0")
      return false
    }
    stage.machine.options.clock?.vcpuReset(target)
    stage.note(.replugged(vcpu: target, how: .initialized(by: sender)))
    return true
  }

  /// SCHEDOFF-NO-UNDERFLOW: vCPU 0 reads first, vCPU 1 registers later; it may not even exist yet.
  @Sendable static func scheduleOffset(_ stage: Stage) throws {
    for msr in [MSR.systemTime, MSR.systemTimeOld] {
      for isLate in [false, true] {
        try stage.makeMachine(vcpus: isLate ? [0] : [0, 1], highest: 1)
        try stage.register(0, msr)
        if isLate { try stage.addVCPU(1) }
        try stage.register(1, msr)
        for vcpu in [0, 1, 0, 1] { try stage.read(vcpu) }
      }
    }
  }

  /// MODE-INDEPENDENT: one vCPU goes through the modes, its record between two pages.
  @Sendable static func modes(_ stage: Stage) throws {
    try stage.makeMachine(vcpus: [0])
    // Long mode first: then every mode's write comes after a reading.
    let images: [GuestImage] = [.agentLong, .agentReal, .agentProtected, .agentLong]
    for (round, image) in images.enumerated() {
      try stage.boot(0, image)
      let isSecond = round % 2 == 1
      stage.fillClockPage(0, second: isSecond)
      try stage.register(0, at: stage.placeRecord(of: 0, second: isSecond))
      try stage.read(0)
    }
    try stage.read(0, ring: 3)
  }
}
