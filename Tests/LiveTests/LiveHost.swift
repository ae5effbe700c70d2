import ABIChecker
import Foundation
import KVM
import Scenarios
import Testing
import VMBuilder

/// What the live tests need to know before they start: whether there is a /dev/kvm to use.
enum LiveHost {
  static let problem: String? = {
    do {
      _ = try KVMSystem()
      return nil
    } catch {
      return "\(error)"
    }
  }()

  static var isUsable: Bool { problem == nil }
  static let isRequired = ProcessInfo.processInfo.environment["KVM_REQUIRED"] == "1"

  static func facts() throws -> HostFacts { try HostInspection.facts(device: "/dev/kvm") }

  static func machine(_ options: Machine.Options = Machine.Options()) throws -> Machine {
    let system = try KVMSystem()
    let machine = try Machine(on: system, cpuid: try system.supportedCPUID(), options)
    for vcpu in options.vcpus { try machine.boot(vcpu, .agentLong) }
    return machine
  }
}

@Test("KVM_REQUIRED=1 turns a /dev/kvm that cannot be used into a failure")
func requirement() {
  if LiveHost.isRequired { #expect(LiveHost.problem == nil) }
}

/// Everything that runs guests, one test at a time.
@Suite(
  .serialized,
  .enabled(if: LiveHost.isUsable, "\(LiveHost.problem ?? "")"),
  .timeLimit(.minutes(2)))
struct Live {}
