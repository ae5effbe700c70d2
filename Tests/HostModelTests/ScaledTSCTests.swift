import ABIChecker
import KVM
import PVClock
import Testing

@testable import HostModel

/// Guests whose TSC has another frequency than the host's, 2.5 GHz.
@Suite struct ScaledTSCTests {
  /// What vCPU `id` reads now from the record at an address.
  static func reading(_ vm: SimulatedVM, _ id: Int, at address: UInt64) -> UInt64 {
    let tsc = vm.clock.vcpus[id]!.scaling?.guestTSC(vm.time.tsc()) ?? vm.time.tsc()
    return vm.ram.page(address).systemTime(atTSC: tsc)
  }

  @Test(arguments: [1_250_000, 3_333_333, 100_000] as [UInt32])
  func theGuestsViewIsKVMGetClocks(kHz: UInt32) {
    var vm = SimulatedVM()
    for id in [0, 1] { vm.clock.setTSCKHz(kHz, id) }
    for id in [0, 1] { vm.write(id, UInt64(0x1001 + id * 0x1000)) }
    #expect(vm.ram.page(0x1000).scale == TSCScale(tscKHz: kHz))
    for _ in 0..<5 {
      vm.time.pass(7_000_002)
      let clock = vm.clock.get().clock
      for id in [0, 1] { #expect(Self.reading(vm, id, at: UInt64(0x1000 + id * 0x1000)) == clock) }
    }
    #expect(vm.clock.get().clock.distance(to: 35_000_010).magnitude <= 2)
  }

  @Test func timeGoesOnWhereTheRateChanges() {
    var vm = SimulatedVM(vcpus: 1)
    vm.write(0, 0x1001)
    for kHz: UInt32 in [1_250_000, 5_000_000, 2_500_000] {
      vm.time.pass(1_000_000)
      let before = vm.clock.get().clock
      vm.clock.setTSCKHz(kHz, 0)
      vm.enter(0)
      #expect(Self.reading(vm, 0, at: 0x1000) == before)
    }
    #expect(vm.clock.vcpus[0]!.scaling == nil)
    #expect(vm.ram.page(0x1000).scale == TSCScale(tscKHz: 2_500_000))
  }

  @Test func whatIsWithinTheToleranceIsTheHosts() {
    for kHz: UInt32 in [2_500_000, 2_500_600, 2_499_400, 0] {
      #expect(GuestTSCRate(kHz: kHz, host: 2_500_000) == nil)
    }
    #expect(GuestTSCRate(kHz: 2_501_000, host: 2_500_000) != nil)
  }

  @Test func vCPUsThatAreMadeLaterHaveTheVMsFrequency() {
    var vm = SimulatedVM(vcpus: 0)
    vm.clock.kHzOfNewVCPUs = 1_000_000
    vm.clock.add(0, features: ~0, isConfined: false, tscOffset: 0)
    vm.write(0, 0x1001)
    #expect(vm.clock.vcpus[0]?.scaling?.kHz == 1_000_000)
    #expect(vm.ram.page(0x1000).scale == TSCScale(tscKHz: 1_000_000))
  }
}
