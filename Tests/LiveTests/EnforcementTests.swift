import KVM
import Testing

@testable import VMBuilder

extension Live {
  @Suite("A vCPU that is confined to its CPUID")
  struct Enforcement {
    @Test(
      "has no clock MSR that its CPUID does not offer, and goes on after the fault",
      arguments: [Machine.Enforcement.none, .beforeCPUID, .afterCPUID])
    func clockMSR(enforcement: Machine.Enforcement) throws {
      let system = try KVMSystem()
      guard try system.checkExtension(.enforcePVFeatureCPUID) > 0 else { return }
      let cpuid = try system.supportedCPUID().filter { $0.function >> 8 != 0x40_0000 }
      let machine = try Machine(on: system, cpuid: cpuid, Machine.Options(vcpus: []))
      try machine.addVCPU(0, cpuid: cpuid, enforcement: enforcement)
      try machine.boot(0, .agentLong)
      let record = Layout.clockPage(0) + 128
      let fault = try machine.ask(0, .writeMSR(0x4b56_4d01, record | 1)).value.fault
      #expect(fault?.vector == (enforcement == .none ? nil : 13))
      #expect(try machine.ask(0, .nothing()).value.status == .done)
    }
  }
}
