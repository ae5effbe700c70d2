import PVClock

@testable import ABIChecker

extension Script {
  static let offers: [UInt64?] = [0, 1, 8, 1 << 24, 9, 0x0100_7efb, nil]

  static func pvFeatures(_ host: inout HistoryBuilder) {
    host.createMachine()
    var next = 0
    func add(_ features: UInt64?, _ enforced: VCPUState.Enforcement?) {
      host.createVCPU(next, features: features, enforced: enforced)
      host.tryClockMSRs(next)
      if enforced != nil { host.tryHostsClockMSRs(next) }
      next += 1
    }
    for enforced in [VCPUState.Enforcement.before, .after] {
      for features in offers { add(features, enforced) }
    }
    for features: UInt64? in [0, nil] { add(features, nil) }
  }

  static func returnValues(_ host: inout HistoryBuilder) {
    host.machine(0)
    host.register(0)
    for request in ["KVM_GET_CLOCK", "KVM_SET_CLOCK", "KVM_KVMCLOCK_CTRL", "KVM_SET_TSC_KHZ"] {
      host.host(.returned(request: request, result: 0))
    }
    for request in ["KVM_GET_CLOCK", "KVM_SET_CLOCK", "KVM_GET_DEVICE_ATTR"] {
      host.host(.refused(request: request, because: .noMemory, error: "EFAULT"))
    }
    host.host(.refused(request: "KVM_HAS_DEVICE_ATTR", because: .unknownAttribute, error: "ENXIO"))
  }

  static func msrFilter(_ host: inout HistoryBuilder) {
    host.createMachine()
    host.createVCPU(0, features: 0x0100_7efb, enforced: nil)
    for denied in MSR.clock.map({ [$0] }) + [[]] {
      host.deny(denied)
      host.tryClockMSRs(0)
      for msr in MSR.clock {
        host.hostWriteMSR(0, msr, MSR.request(msr, at: 0x9000))
        host.host(.hostReadMSR(vcpu: 0, msr: Hex(msr), value: Hex(host.value(of: msr, on: 0))))
      }
    }
  }

  static func hostRegisters(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for round in 0..<2 {
      for id in [0, 1] {
        let address = UInt64(0x10000 + id * 0x1000 + round * 0x200)
        host.fill(address, count: 32)
        host.hostWriteMSR(
          id, id == round ? MSR.systemTime : MSR.systemTimeOld, address | 1)
        host.enter(id)
        host.look(id)
        host.read(id)
      }
      settle(&host)
    }
    for id in [0, 1] { host.hostWriteMSR(id, MSR.systemTimeOld, host.vcpus[id]!.msr) }
    settle(&host)
  }

  private static func settle(_ host: inout HistoryBuilder) {
    for id in [0, 1, 0, 1] { host.enter(id) }
    for id in [0, 1] { host.look(id) }
    host.getClock()
  }

  static func align4(_ host: inout HistoryBuilder) {
    host.machine(0)
    for round in 0..<1017 as Range<UInt64> {
      let address = 0x20000 + round * 340 % 1017 * 4
      host.fill(address - 64, count: 160)
      host.run(0, .write(MSR.systemTime, address | 1))
      host.dump(address - 64, count: 160)
      host.records = [:]
    }
  }

  static func unbacked(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    let addresses: [UInt64] = [1 << 32, 0x20_0000, 0xffff_ffff_ffff_f000, 1 << 63]
    host.copyMemory()
    for (round, address) in addresses.enumerated() {
      if round % 2 == 0 {
        host.register(0)
      } else {
        host.run(0, .write(MSR.systemTime, 0))
        host.copyMemory()
      }
      host.run(0, .readMSR(MSR.systemTime))
      host.run(0, .write(MSR.systemTime, address | 1))
      if round % 2 == 0 { host.copyMemory() }
      host.setClock(UInt64(round) * 1_000_000_007)
      for id in [0, 1, 0] { host.enter(id) }
      host.run(0, .readMSR(MSR.systemTime))
      host.compareMemory()
    }
  }

  static func scribble(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    for id in [0, 1] {
      for flags: UInt32 in [0xff, 0, 0xfd, 2] {
        host.read(id)
        let version: UInt32 = flags == 0xff ? 0xffff_ffff : 8
        host.scribble(id, [version, 1, 2, 3, 4, 5, 6, 0xffff_0033 | flags << 8])
        host.register(id)
        host.look(id)
      }
    }
  }

  static func rewriteExact(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    settle(&host)
    for round in 0..<260 {
      for id in [0, 1] {
        let address = UInt64(0x10000 + id * 0x1000 + round / 50 * 64)
        host.run(id, .write(MSR.systemTime, address | 1))
        host.look(id)
      }
    }
  }

  static func oldMSRTimestamp(_ host: inout HistoryBuilder) {
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    for id in [0, 1] {
      for _ in 0..<6 {
        host.wait(milliseconds: 2)
        host.read(id)
        host.register(id, msr: MSR.systemTimeOld)
      }
    }
  }
}
