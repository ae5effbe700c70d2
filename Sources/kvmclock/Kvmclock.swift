import ArgumentParser
import CArguments
import Glibc
import Reporting

/// Tests whether the KVM of this host keeps the ABI of its paravirtual clock.
@main
struct Kvmclock: ParsableCommand {
  static let version = "0.1.0"

  static let configuration = CommandConfiguration(
    commandName: "kvmclock",
    abstract: "Tests whether the KVM of this host keeps the ABI of its paravirtual clock.",
    discussion: """
      Small virtual machines are run on /dev/kvm, what they see of the clock is recorded, and the \
      recordings are judged by rules, each one sentence of the ABI.

      EXAMPLES
        kvmclock doctor                           what this host offers
        kvmclock run                              all rules
        kvmclock run 'SYSTIME-*' --history out    some rules; keep the recordings
        kvmclock run --output out.json            also a report for programs
        kvmclock soak --for 8h                    what can drift or race, for hours
        kvmclock check out/*.jsonl                judge recordings again
        kvmclock vmm qemu                         what QEMU does with its guests' clock
        kvmclock inside                           in a guest: its own clock
        kvmclock explain VERSION-EVEN             what a rule says, and who says so

      EXIT STATUS
        0    no rule is broken
        1    a rule is broken, with --strict also by a known deviation; or no guest runs
        2    none is broken, but one is undecided, or none could be tested
        64   the command line is wrong
        65   a file is not a history
        66   a file cannot be read
        69   KVM cannot be used on this host
        70   internal error
        74   output or a history could not be written
        130  interrupted (143: terminated; 141: nobody reads the output)
      """,
    version: version,
    subcommands: [
      RunCommand.self, SoakCommand.self, ListCommand.self, ExplainCommand.self, CheckCommand.self,
      ShowCommand.self,
      CompareCommand.self, VMMCommand.self, InsideCommand.self, DoctorCommand.self,
      PoliciesCommand.self, FaultsCommand.self, RestoreHostCommand.self, TSCRateCommand.self,
    ])

  static func main() {
    Output.claimStandardDescriptors()
    Output.surviveFailedWrites()
    Glibc.exit(status())
  }

  /// Swift's own list comes from /proc: without /proc it is empty, and each command would print the help and succeed.
  private static var arguments: [String] {
    (1..<max(1, main_argument_count())).map { String(cString: main_argument($0)) }
  }

  /// Parses and runs; every way out comes by here.
  private static func status() -> Int32 {
    do {
      try parseAndRun()
      return 0
    } catch let code as ExitCode {
      return code.rawValue
    } catch let failure as Failure {
      Output.complain(failure.message)
      return failure.code
    } catch {
      // EX_SOFTWARE: a program that does not know what happened must not say that a rule is broken.
      Output.complain("kvmclock: \(error)")
      return 70
    }
  }

  private static func parseAndRun() throws {
    var command: any ParsableCommand
    do { command = try parseAsRoot(arguments) } catch { return try answer(error) }
    do { try command.run() } catch let code as ExitCode {
      throw code
    } catch {
      // Only a request for help comes out of a command as an error of the parser's.
      guard exitCode(for: error) == .success else { throw error }
      try answer(error)
    }
  }

  /// Help and the version go to stdout, complaints about the command line to stderr.
  private static func answer(_ error: any Error) throws {
    let code = exitCode(for: error)
    guard code == .success else { throw Failure(code.rawValue, fullMessage(for: error)) }
    try Output.write(fullMessage(for: error) + "\n")
  }
}
