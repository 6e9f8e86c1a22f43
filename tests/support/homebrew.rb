# A stub of Homebrew's formula DSL: runs a formula without Homebrew, on any machine.
#
# What a formula may call is defined here, with the types that Homebrew checks; any other name is
# a NoMethodError, as it is for Homebrew. Source: Homebrew/brew, formula.rb, service.rb,
# install_renamed.rb and docs/Formula-Cookbook.md of version 6. For ruby 2.6, which macOS has.
#
# Usage: homebrew.rb FORMULA describe PREFIX   class body, service and caveats, as JSON
#        homebrew.rb FORMULA install PREFIX    runs `install` in the current folder, but no
#                                              command: they are in the JSON
#        homebrew.rb FORMULA test PREFIX       runs the test, with its commands

require "English"
require "fileutils"
require "json"
require "pathname"
require "shellwords"
require "socket"

HOMEBREW_PREFIX = Pathname(ARGV.fetch(2))

# Files move; below etc, a file that exists and differs stays, and the new one gets `.default`.
class Pathname
  def install(*sources)
    mkpath
    sources.each do |source|
      target = self/File.basename(source)
      in_etc = to_s.start_with?((HOMEBREW_PREFIX/"etc").to_s)
      if in_etc && target.file? && !FileUtils.identical?(source, target)
        target = Pathname("#{target}.default")
      end
      FileUtils.mv(source, target)
    end
  end

  def install_symlink(*sources)
    mkpath
    sources.each { |source| FileUtils.ln_sf(source, self/File.basename(source)) }
  end
end

module Language
  module Python
    module Virtualenv
      def virtualenv_create(root, python = "python", system_site_packages: true)
        record("virtualenv_create", root, python, system_site_packages)
      end
    end
  end
end

module Paths
  def etc
    HOMEBREW_PREFIX/"etc"
  end

  def var
    HOMEBREW_PREFIX/"var"
  end

  def opt_bin
    HOMEBREW_PREFIX/"opt/mlxnode/bin"
  end

  def bin
    prefix/"bin"
  end

  def libexec
    prefix/"libexec"
  end

  private

  def prefix
    HOMEBREW_PREFIX/"Cellar/mlxnode/1.0.0"
  end
end

class Service
  include Paths

  PROCESS_TYPES = [:background, :standard, :interactive, :adaptive].freeze

  attr_reader :fields

  def initialize(&block)
    @fields = {}
    instance_eval(&block)
  end

  def run(command)
    @fields[:run] = Array(command).map(&:to_s)
  end

  def keep_alive(value)
    unless [true, false].include?(value)
      unknown = value.keys - [:always, :successful_exit, :crashed, :path]
      raise TypeError, "keep_alive #{unknown}" unless unknown.empty?
    end
    @fields[:keep_alive] = value
  end

  def process_type(value)
    raise TypeError, "process_type #{value}" unless PROCESS_TYPES.include?(value)

    @fields[:process_type] = value
  end

  [:stop_timeout, :throttle_interval].each do |name|
    define_method(name) do |seconds|
      raise TypeError, "#{name} #{seconds}" unless seconds.is_a?(Integer) && seconds >= 0

      @fields[name] = seconds
    end
  end

  [:working_dir, :log_path, :error_log_path].each do |name|
    define_method(name) { |path| @fields[name] = path.to_s }
  end

  def environment_variables(variables)
    @fields[:environment_variables] = variables
  end
end

class Formula
  include Paths
  include FileUtils

  class << self
    attr_reader :calls, :service_block, :test_block, :formula

    def inherited(formula)
      super
      Formula.instance_variable_set(:@formula, formula)
      formula.instance_variable_set(:@calls, [])
    end

    def include(*modules)
      @calls&.push([:include, *modules.map(&:to_s)])
      super
    end

    [:desc, :homepage, :url, :sha256, :license].each do |name|
      define_method(name) do |value|
        raise TypeError, "#{name} #{value}" unless value.is_a?(String)

        @calls.push([name, value])
      end
    end

    def head(url, branch:)
      @calls.push([:head, url, branch])
    end

    def depends_on(dependency)
      @calls.push([:depends_on, dependency])
    end

    def preserve_rpath(value: true)
      @calls.push([:preserve_rpath, value])
    end

    def service(&block)
      @calls.push([:service])
      @service_block = block
    end

    def test(&block)
      @calls.push([:test])
      @test_block = block
    end
  end

  attr_reader :commands

  def initialize(is_recording)
    @commands = []
    @is_recording = is_recording
  end

  def record(*command)
    @commands.push(command.map { |word| word.is_a?(Pathname) ? word.to_s : word })
  end

  def system(*command)
    return record(*command) if @is_recording

    Kernel.system(*command.map(&:to_s)) || raise("#{command.join(" ")} failed")
  end

  def spawn(*command)
    Kernel.spawn(*command.map(&:to_s))
  end

  def shell_output(command, expected = 0)
    output = `#{command}`
    assert_equal expected, $CHILD_STATUS.exitstatus
    output
  end

  def pkgetc
    etc/"mlxnode"
  end

  def pkgshare
    prefix/"share/mlxnode"
  end

  def buildpath
    Pathname.pwd
  end

  def testpath
    Pathname.pwd
  end

  def free_port
    server = TCPServer.new("127.0.0.1", 0)
    server.addr[1].tap { server.close }
  end

  def assert_equal(expected, actual)
    raise "expected #{expected.inspect}, got #{actual.inspect}" unless expected == actual
  end

  def assert_predicate(object, name)
    raise "#{object.inspect} is not #{name}" unless object.public_send(name)
  end
end

file, action = ARGV
load File.expand_path(file)
formula = Formula.formula

case action
when "describe"
  puts JSON.generate(
    calls: formula.calls,
    service: Service.new(&formula.service_block).fields,
    caveats: formula.new(true).caveats,
  )
when "install"
  instance = formula.new(true)
  instance.install
  puts JSON.generate(instance.commands)
when "test"
  formula.new(false).instance_eval(&formula.test_block)
else
  abort "unknown action #{action}"
end
