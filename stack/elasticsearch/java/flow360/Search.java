package flow360;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.plugins.Plugin;

/**
 * OpenSearch out of Maven's jars, where no distribution with its folders of modules and plugins is: they stand on the class
 * path, and a node takes such only from a class of its own.
 *
 * Arguments: the folder of opensearch.yml, then the classes of the modules and plugins.
 */
public final class Search extends Node {
    private Search(Environment environment, List<Class<? extends Plugin>> modules) {
        super(environment, modules, true);
    }

    public static void main(String[] args) throws Exception {
        Path conf = Path.of(args[0]);
        List<Class<? extends Plugin>> modules = new ArrayList<>();
        for (String name : List.of(args).subList(1, args.length)) {
            modules.add(Class.forName(name).asSubclass(Plugin.class));
        }
        Settings home = Settings.builder().put("path.home", conf.getParent()).build();
        Search node = new Search(InternalSettingsPreparer.prepareEnvironment(home, Map.of(), conf, () -> "elasticsearch"), modules);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                node.close();
            } catch (Exception error) {
                error.printStackTrace();
            }
        }));
        node.start();
        new CountDownLatch(1).await(); // its own threads let a JVM end
    }
}
