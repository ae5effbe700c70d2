@testable import ABIChecker

extension Script {
  /// The record made anew, the offset known.
  static func renew(_ host: inout HistoryBuilder, _ id: Int) {
    host.register(id)
    host.noteOffset(id)
    host.read(id)
  }

  static func enterAndRead(_ host: inout HistoryBuilder, _ id: Int) {
    host.enter(id)
    host.read(id)
  }

  static func tscOffset(_ host: inout HistoryBuilder) {
    host.machine(0)
    for cycles: UInt64 in [0, 1 << 63, .max, 77_777_777_777_777] {
      renew(&host, 0)
      host.setTSCOffset(0, cycles)
      enterAndRead(&host, 0)
    }
    host.machine(0, 1)
    for first in [1, 0] {
      for id in [0, 1, 0, 1] { host.register(id) }
      for id in [0, 1] { renew(&host, id) }
      for id in [0, 1] { host.setTSCOffset(id, UInt64(first + 3) * 1_000_000_000_000) }
      for id in [first, 1 - first] { enterAndRead(&host, id) }
    }
    for id in [0, 1, 0, 1] { host.register(id) }
    for id in [0, 1, 0, 0] {
      renew(&host, id)
      host.setTSCOffset(id, host.tscGeneration < 3 ? 5_000_000_000_000 : host.time.cycles)
      enterAndRead(&host, id)
      for id in [0, 1] { renew(&host, id) }
      host.getClock()
    }
  }

  static func tscWrite(_ host: inout HistoryBuilder) {
    host.machine(0)
    for value: UInt64 in [1 << 60, 1 << 45] {
      renew(&host, 0)
      host.hostWriteTSC(0, value)
      enterAndRead(&host, 0)
    }
    for value: UInt64 in [1 << 59, 1_000_000_000, 1 << 60] {
      renew(&host, 0)
      host.guestWriteTSC(0, MSR.tsc, value)
      host.read(0)
    }
    host.machine(0, 1)
    for id in [0, 1, 0, 1] { host.register(id) }
    for (id, value): (Int, UInt64) in [(0, 1 << 52), (1, 1 << 52), (0, 1 << 58), (0, 1 << 46)] {
      renew(&host, id)
      host.hostWriteTSC(id, value)
      enterAndRead(&host, id)
      for id in [0, 1] { renew(&host, id) }
      host.getClock()
    }
  }

  static func tscAdjust(_ host: inout HistoryBuilder) {
    host.machine(0)
    for value: UInt64 in [1 << 45, 0 &- 1 << 45, 1 << 46, 0] {
      renew(&host, 0)
      host.hostWriteAdjust(0, value)
      enterAndRead(&host, 0)
    }
    for value: UInt64 in [1 << 45, 0 &- 1 << 45, 0] {
      renew(&host, 0)
      host.guestWriteTSC(0, MSR.tscAdjust, value)
      host.read(0)
    }
  }

  static func tscWays(_ host: inout HistoryBuilder) {
    host.machine(0)
    renew(&host, 0)
    host.setTSCOffset(0, 1 << 45)
    enterAndRead(&host, 0)
    renew(&host, 0)
    host.hostWriteTSC(0, 1 << 49)
    enterAndRead(&host, 0)
    renew(&host, 0)
    host.guestWriteTSC(0, MSR.tsc, 1 << 53)
    renew(&host, 0)
    host.guestWriteTSC(0, MSR.tscAdjust, 1 << 47)
    renew(&host, 0)
  }

  static func tscFrequency(_ host: inout HistoryBuilder) {
    let kHz = SimulatedTime.tscKHz
    host.host(.capability(name: "tsc_tolerance_ppm", value: 250))
    host.machine(0)
    host.register(0)
    for off in [259, -259, 599, -599] {
      host.setTSCKHz(0, UInt32(Int(kHz) + off))
      host.register(0)
      host.wait(milliseconds: 4)
      host.read(0)
    }
    host.machine(0)
    host.setTSCKHz(0, kHz / 2, error: "EINVAL")
    host.host(.capability(name: "KVM_CAP_TSC_CONTROL", value: 0))
    host.machine(0)
    host.register(0)
    host.setTSCKHz(0, 2 * kHz)
    host.register(0)
    for _ in 0..<2 {
      host.wait(milliseconds: 5)
      host.read(0)
    }
    host.host(.capability(name: "KVM_CAP_VM_TSC_CONTROL", value: 1))
    host.createMachine()
    host.host(.setTSCKHz(vcpu: nil, kHz: kHz, error: nil))
    host.createVCPU(0)
    host.host(.setTSCKHz(vcpu: nil, kHz: kHz, error: "EINVAL"))
  }
}
